/** The layout of JSON files: the value of JSON.stringify, compact where nothing is nested. */
import fc from 'fast-check';
import { expect, it } from 'vitest';
import { formatJson } from '../../src/files/json.js';
import { jsonText } from '../../src/files/numbers.js';

it('writes lists and objects without nesting on one line, and indents the others', () => {
  const value = { id: 'a', spec: { steps: 2, rates: [0.1, 0.2], none: [] }, rows: [{ x: 1, y: null }] };
  expect(formatJson(value)).toBe(
    `{
  "id": "a",
  "spec": {
    "steps": 2,
    "rates": [0.1,0.2],
    "none": []
  },
  "rows": [
    {"x":1,"y":null}
  ]
}
`,
  );
});

it('parses to the same value as JSON.stringify: undefined is left out, non-finite numbers are null', () => {
  const value = { a: undefined, b: Number.NaN, at: new Date(0), list: [undefined, { c: undefined }] };
  expect(JSON.parse(formatJson(value))).toEqual(JSON.parse(JSON.stringify(value)));
  fc.assert(
    fc.property(fc.json(), (text) => {
      expect(JSON.stringify(JSON.parse(formatJson(JSON.parse(text))))).toBe(JSON.stringify(JSON.parse(text)));
    }),
  );
});

it('whole numbers from 2^63 on have an exponent, which pandas and jq read as a number; texts keep their digits', () => {
  const value = {
    budget: 1e20,
    list: [2 ** 63, -2e19, 6e18],
    small: 1.2345678901234567e-6,
    text: '1"00000000000000000000',
  };
  const rows =
    '{"budget":1e+20,"list":[9.223372036854776e+18,-2e+19,6000000000000000000],"small":0.0000012345678901234567,"text":"1\\"00000000000000000000"}';
  expect(jsonText(value)).toBe(rows);
  expect(JSON.parse(formatJson(value))).toEqual(value);
  expect(formatJson({ flop_budget: 1e20 })).toBe('{"flop_budget":1e+20}\n');
});

it('is the value of JSON.stringify for any value', () => {
  fc.assert(
    fc.property(fc.jsonValue(), (value) => {
      expect(JSON.stringify(JSON.parse(jsonText(value, 1)))).toBe(JSON.stringify(value));
    }),
  );
});
