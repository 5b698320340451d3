/** The layout of JSON files: the value of JSON.stringify, compact where nothing is nested. */
import fc from 'fast-check';
import { expect, it } from 'vitest';
import { formatJson } from '../../src/files/json.js';

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
