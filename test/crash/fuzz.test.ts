/** Invalid or damaged input files give an InputError or a correct read, in about the memory of the file itself. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { parseSweepFile } from '../../src/config/sweep-file.js';
import { openTokenFile } from '../../src/data/tokens.js';
import { InputError } from '../../src/errors.js';
import { readSafetensors } from '../../src/files/safetensors.js';
import { figure, times } from './scale.js';

let folder: string;
let path: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'mod-fuzz-'));
  path = join(folder, 'file');
});
afterAll(() => rmSync(folder, { recursive: true }));

/** Time limit of a read, for headers of megabytes on a busy machine. */
const LONGEST_MS = 10_000;
/** Memory of a read in addition to the file: objects, messages, garbage not yet collected. */
const SPARE_BYTES = 64 * 2 ** 20;

/** Reads a file; any error must be an InputError. */
function read(reader: () => void): 'read' | 'rejected' {
  const [started, before] = [performance.now(), process.memoryUsage()];
  try {
    reader();
    return 'read';
  } catch (error) {
    expect(error).toBeInstanceOf(InputError);
    return 'rejected';
  } finally {
    const after = process.memoryUsage();
    expect(performance.now() - started).toBeLessThan(LONGEST_MS);
    expect(after.arrayBuffers - before.arrayBuffers).toBeLessThan(SPARE_BYTES);
  }
}

function tally(what: string, outcomes: string[]): void {
  const rejected = outcomes.filter((outcome) => outcome === 'rejected').length;
  figure(`${what}: cases, of them rejected, crashes or hangs`, `${outcomes.length}, ${rejected}, 0`);
  expect(rejected).toBeGreaterThan(0);
  expect(rejected).toBeLessThan(outcomes.length); // some inputs must be valid
}

const integer = fc.oneof(
  fc.integer({ min: -2, max: 40 }),
  fc.constantFrom(2 ** 31 - 1, 2 ** 32, 2 ** 53 - 1, 2 ** 53, 1e300, -1, 0.5),
);
const dtype = fc.constantFrom('F32', 'I32', 'F64', 'BF16', '', 'constructor', null, 1);
const entry = fc.record(
  {
    dtype,
    shape: fc.oneof(fc.array(integer, { maxLength: 4 }), integer, fc.constant(null)),
    data_offsets: fc.oneof(fc.tuple(integer, integer), fc.array(integer, { maxLength: 3 })),
  },
  { requiredKeys: [] },
);
const name = fc.constantFrom('a', 'b', 'c', '__metadata__', '__proto__', 'constructor', '');
/** A valid header, or one with a single wrong entry: consecutive tensors of one value each. */
const nearlyRight = fc
  .tuple(fc.nat(4), fc.option(entry), fc.option(integer))
  .map(([count, wrong, offset]) => {
    const entries = Array.from({ length: count }, (_, i) => [
      `t${i}`,
      { dtype: 'F32', shape: [1], data_offsets: [4 * i, 4 * i + 4] },
    ]);
    if (wrong !== null && count > 0) entries[count - 1] = ['wrong', wrong as never];
    if (offset !== null && count > 1)
      entries[0] = ['t0', { dtype: 'F32', shape: [1], data_offsets: [offset, 4] }];
    return { text: JSON.stringify(Object.fromEntries(entries)), data: new Uint8Array(4 * count) };
  });
const nonsense = fc
  .tuple(
    fc.oneof(
      fc.dictionary(name, entry).map((value) => JSON.stringify(value)),
      fc.json(),
      fc.string({ maxLength: 60 }),
    ),
    fc.uint8Array({ maxLength: 64 }),
  )
  .map(([text, data]) => ({ text, data }));

it('safetensors: wrong lengths, overlapping offsets, huge headers', () => {
  const outcomes: string[] = [];
  const length = fc.oneof(
    { weight: 6, arbitrary: fc.constant(null) },
    { weight: 1, arbitrary: fc.bigInt({ min: 0n, max: 200n }) },
    { weight: 1, arbitrary: fc.constantFrom(2n ** 31n, 2n ** 53n + 1n, 2n ** 63n, 2n ** 64n - 1n) },
  );
  fc.assert(
    fc.property(fc.oneof(nearlyRight, nonsense), length, ({ text, data }, claimed) => {
      const head = Buffer.from(text);
      const bytes = Buffer.alloc(8);
      bytes.writeBigUInt64LE(claimed ?? BigInt(head.length));
      writeFileSync(path, Buffer.concat([bytes, head, data]));
      const outcome = read(() => {
        let total = 0;
        for (const { shape, data: values } of readSafetensors(path).values()) {
          expect(values.length).toBe(shape.reduce((a, b) => a * b, 1));
          total += values.byteLength;
        }
        expect(total).toBe(data.length);
      });
      outcomes.push(outcome);
    }),
    { numRuns: times(500, 20_000), seed: 1 },
  );
  for (const large of [2 ** 20, 4 * 2 ** 20]) {
    for (const fill of ['[', '{"a":', '"', '{"a":1,']) {
      const head = Buffer.from(fill.repeat(large / fill.length));
      const bytes = Buffer.alloc(8);
      bytes.writeBigUInt64LE(BigInt(head.length));
      writeFileSync(path, Buffer.concat([bytes, head]));
      outcomes.push(read(() => void readSafetensors(path)));
    }
  }
  tally('safetensors', outcomes);
});

it('token files: wrong headers, wrong sizes, tokens outside the vocabulary', () => {
  const outcomes: string[] = [];
  const word = fc.oneof(
    integer.map((value) => Math.trunc(value) | 0),
    fc.integer(),
  );
  const magic = fc.constantFrom(20240520, 20240801, 20240521, 0);
  fc.assert(
    fc.property(
      magic,
      fc.oneof(fc.constantFrom(1, 7), word),
      fc.oneof(fc.nat(20), word),
      fc.uint8Array({ maxLength: 80 }),
      fc.constantFrom(1, 2),
      fc.option(fc.nat(1100)),
      (mark, version, count, data, tokenBytes, cut) => {
        const head = new Int32Array(256);
        head.set([mark, version, count]);
        const whole = Buffer.concat([new Uint8Array(head.buffer), data]);
        writeFileSync(path, cut === null ? whole : whole.subarray(0, cut));
        const outcome = read(() => {
          const source = openTokenFile(path, tokenBytes as 1 | 2, 300);
          try {
            expect(source.tokens).toBeLessThanOrEqual(whole.length);
            const tokens = new Int32Array(source.tokens);
            source.read(0, tokens);
            expect(tokens.every((token) => token >= 0 && token < 300)).toBe(true);
          } finally {
            source.close();
          }
        });
        outcomes.push(outcome);
      },
    ),
    { numRuns: times(500, 20_000), seed: 2 },
  );
  tally('token files', outcomes);
});

const GOOD = `name: s
flop_budgets: [1e15]
capacities: [0.125, 0.5]
routing_frequencies: [1, 2]
model_sizes: [{d_model: 64, n_layers: 4}]
training: {learning_rate: [auto, 1e-3]}
checkpoint: {minutes: 5, steps: 100, keep: 2, keep_final: best}
on_finish: [mail, -s, done]
grids: [{seeds: [1, 2]}]
data: {text: a, heldout_text: b, tokenizer: bytes}
`;

it('sweep files: random text, and pieces of YAML in random places', () => {
  const outcomes: string[] = [];
  const piece = fc.constantFrom(
    ...[
      '[',
      ']',
      '{',
      '}',
      ': ',
      '- ',
      '&a ',
      '*a',
      '<<: *a',
      '!!js/function ',
      '!!binary ',
      '|\n',
      '\n',
      '  ',
      '\t',
    ],
    ...[
      '~',
      'null',
      '1e999',
      '-1',
      '0x10',
      '.nan',
      '.inf',
      '"',
      "'",
      '#',
      '%YAML 9',
      '---\n',
      '...\n',
      '\0',
      '\u{10ffff}',
    ],
    ...[
      'name',
      '__proto__: 1',
      'constructor: {}',
      'grids: [*a]',
      '../../x',
      '$HOME',
      '$(id)',
      '1_000',
      '2026-01-01',
    ],
  );
  const noise = fc.oneof(piece, fc.constantFrom('', '', '0', '# a remark\n'), fc.string({ maxLength: 12 }));
  const edited = fc.array(fc.tuple(fc.nat(GOOD.length), fc.constantFrom(0, 0, 1, 30), noise), {
    maxLength: 5,
  });
  const text = fc.oneof(
    {
      weight: 5,
      arbitrary: edited.map((edits) =>
        edits.reduce((all, [at, cut, added]) => all.slice(0, at) + added + all.slice(at + cut), GOOD),
      ),
    },
    { weight: 1, arbitrary: fc.array(noise, { maxLength: 40 }).map((parts) => parts.join('')) },
  );
  const prototype = Object.getOwnPropertyNames(Object.prototype).length;
  fc.assert(
    fc.property(text, (content) => {
      outcomes.push(
        read(() => {
          const { name } = parseSweepFile('s.yaml', content);
          expect(name).toMatch(/^[^./\\][^/\\]*$/); // a name that stays inside the results folder
        }),
      );
    }),
    { numRuns: times(500, 20_000), seed: 3 },
  );
  expect(Object.getOwnPropertyNames(Object.prototype).length).toBe(prototype);
  tally('sweep files', outcomes);
});
