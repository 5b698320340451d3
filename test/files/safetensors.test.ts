/** safetensors: the bytes of the reference implementation, round trips, and clear errors for invalid files. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { InputError } from '../../src/errors.js';
import { readSafetensors, type SafeTensor, writeSafetensors } from '../../src/files/safetensors.js';

let folder: string;
let path: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'mod-safetensors-'));
  path = join(folder, 'a.safetensors');
});
afterAll(() => rmSync(folder, { recursive: true }));

function file(header: string, data: Uint8Array = new Uint8Array(), length?: bigint): string {
  const bytes = Buffer.from(header);
  const head = Buffer.alloc(8);
  head.writeBigUInt64LE(length ?? BigInt(bytes.length));
  writeFileSync(path, Buffer.concat([head, bytes, data]));
  return path;
}

const shape = fc.array(fc.nat(4), { maxLength: 3 });
const anyTensor: fc.Arbitrary<SafeTensor> = fc
  .tuple(fc.string({ unit: 'binary', maxLength: 8 }), shape, fc.constantFrom('F32', 'I32'), fc.nat())
  .filter(([name]) => name !== '__metadata__')
  .map(([name, shape, dtype, seed]) => {
    const values = Array.from(
      { length: shape.reduce((a, b) => a * b, 1) },
      (_, i) => (seed + i * 7919) % 65536,
    );
    return dtype === 'F32'
      ? { name, dtype, shape, data: Float32Array.from(values, (value) => value / 7) }
      : { name, dtype: 'I32', shape, data: Int32Array.from(values, (value) => -value) };
  });
const anyTensors = fc.uniqueArray(anyTensor, { selector: ({ name }) => name, maxLength: 5 });

describe('safetensors', () => {
  it.each(['baseline', 'mod-raw-f2', 'mod-sigmoid-f1-aux-untied'])(
    'writes the bytes of the reference implementation: %s',
    (golden) => {
      for (const name of ['weights', 'tensors']) {
        const original = new URL(`../golden/${golden}/${name}.safetensors`, import.meta.url).pathname;
        writeSafetensors(path, [...readSafetensors(original).values()].reverse());
        expect(readFileSync(path).equals(readFileSync(original))).toBe(true);
      }
    },
  );

  it('round-trips tensors, and writes the same bytes for any order', () => {
    fc.assert(
      fc.property(anyTensors, (tensors) => {
        writeSafetensors(path, tensors, { format: 'pt' });
        const bytes = readFileSync(path);
        expect(bytes.readUInt32LE(0) % 8).toBe(0);
        const found = readSafetensors(path);
        expect(found.size).toBe(tensors.length);
        for (const tensor of tensors) expect(found.get(tensor.name)).toEqual(tensor);
        writeSafetensors(path, [...tensors].reverse(), { format: 'pt' });
        expect(readFileSync(path).equals(bytes)).toBe(true);
      }),
      { numRuns: 60 },
    );
  });

  it('writes only the values of a view of a larger buffer', () => {
    const whole = Float32Array.of(1, 2, 3, 4);
    writeSafetensors(path, [{ name: 'x', dtype: 'F32', shape: [2], data: whole.subarray(1, 3) }]);
    expect(readSafetensors(path).get('x')?.data).toEqual(Float32Array.of(2, 3));
  });

  it('rejects tensors that could not be read back', () => {
    const x: SafeTensor = { name: 'x', dtype: 'F32', shape: [1], data: new Float32Array(1) };
    expect(() => writeSafetensors(path, [x, x])).toThrow('same name');
    expect(() => writeSafetensors(path, [{ ...x, shape: [2] }])).toThrow('1 values for [2]');
  });

  const one = (info: string) => `{"x":${info}}`;
  const bytes8 = new Uint8Array(8);
  const bad: [string, () => string, RegExp][] = [
    ['a header longer than the file', () => file('{}', bytes8, 1000n), /claims a header of 1000 bytes/],
    ['a header of 2⁶³ bytes', () => file('{}', bytes8, 2n ** 63n), /claims a header/],
    ['invalid JSON', () => file('{"x":'), /JSON/],
    ['a list', () => file('[]'), /not a JSON object/],
    ['space before the header', () => file(' {}'), /not a JSON object/],
    ['broken UTF-8', () => corrupt(file('{"xx":1}'), 10, 0xff), /not a safetensors file/],
    ['a name twice', () => file('{"x":{},"\\u0078":{}}'), /names "x" twice/],
    ['a key twice', () => file(one('{"dtype":"F32","dtype":"I32"}')), /names "dtype" twice/],
    [
      'an unknown dtype',
      () => file(one('{"dtype":"F8_E5M2","shape":[1],"data_offsets":[0,8]}'), bytes8),
      /tensor x: dtype "F8_E5M2"/,
    ],
    [
      'a dtype of Object',
      () => file(one('{"dtype":"toString","shape":[],"data_offsets":[0,8]}'), bytes8),
      /tensor x: dtype/,
    ],
    ['no shape', () => file(one('{"dtype":"F32","data_offsets":[0,8]}'), bytes8), /tensor x: shape missing/],
    [
      'half a value',
      () => file(one('{"dtype":"F32","shape":[1.5],"data_offsets":[0,6]}'), bytes8),
      /tensor x: shape/,
    ],
    [
      'a shape that overflows',
      () => file(one('{"dtype":"F32","shape":[4503599627370496,4096,0],"data_offsets":[0,0]}')),
      /tensor x: .*too large/,
    ],
    [
      'a shape that lies',
      () => file(one('{"dtype":"F32","shape":[3],"data_offsets":[0,8]}'), bytes8),
      /tensor x: F32 \[3\] takes 12 bytes, its data has 8/,
    ],
    [
      'offsets out of the file',
      () => file(one('{"dtype":"F32","shape":[4],"data_offsets":[0,16]}'), bytes8),
      /tensor x: its data is at 0 to 16 of 8/,
    ],
    [
      'offsets backwards',
      () => file(one('{"dtype":"F32","shape":[0],"data_offsets":[8,0]}'), bytes8),
      /tensor x: its data is at 8 to 0/,
    ],
    ['a tensor that is null', () => file(one('null')), /tensor x: not described by an object/],
    [
      'an overlap',
      () =>
        file(
          '{"x":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"y":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}',
          bytes8,
        ),
      /tensor y: its data starts at 4, expected 8/,
    ],
    [
      'a hole',
      () => file(one('{"dtype":"F32","shape":[1],"data_offsets":[4,8]}'), bytes8),
      /tensor x: its data starts at 4, expected 0/,
    ],
    [
      'bytes left over',
      () => file(one('{"dtype":"F32","shape":[1],"data_offsets":[0,4]}'), bytes8),
      /take 4 bytes, the file has 8/,
    ],
    ['metadata of numbers', () => file('{"__metadata__":{"a":1}}'), /__metadata__/],
    ['seven bytes', () => raw(bytes8.subarray(1)), /7 bytes are too few for a header/],
    ['a folder', () => folder, /EISDIR/],
    ['nothing', () => join(folder, 'none'), /ENOENT/],
  ];
  it.each(bad)('rejects %s with an InputError', (_, make, message) => {
    const broken = make();
    expect(() => readSafetensors(broken)).toThrow(InputError);
    expect(() => readSafetensors(broken)).toThrow(message);
    expect(() => readSafetensors(broken)).toThrow(broken);
  });

  it('throws an InputError or reads correctly for any damage', () => {
    writeSafetensors(path, [
      { name: 'a', dtype: 'F32', shape: [2, 2], data: Float32Array.of(1, 2, 3, 4) },
      { name: 'b', dtype: 'I32', shape: [1], data: Int32Array.of(7) },
    ]);
    const whole = readFileSync(path);
    const damage = fc.array(fc.tuple(fc.nat(whole.length - 1), fc.nat(255)), { minLength: 1, maxLength: 4 });
    fc.assert(
      fc.property(damage, fc.nat(whole.length), (changes, end) => {
        const bytes = Buffer.from(whole);
        for (const [at, value] of changes) bytes[at] = value;
        writeFileSync(path, changes.length > 1 ? bytes : bytes.subarray(0, end));
        try {
          for (const { data, shape } of readSafetensors(path).values()) {
            expect(data.length).toBe(shape.reduce((a, b) => a * b, 1));
          }
        } catch (error) {
          expect(error).toBeInstanceOf(InputError);
        }
      }),
      { numRuns: 300 },
    );
  });

  it('handles headers at the limits of depth and length', () => {
    const limit = 8 * 2 ** 20;
    expect(() => readSafetensors(file(one('['.repeat(limit - 5))))).toThrow(InputError);
    expect(() => readSafetensors(file(one(`"${'a'.repeat(limit - 8)}"`)))).toThrow(InputError);
    expect(() => readSafetensors(file(one('{}').padEnd(limit + 1)))).toThrow(/claims a header/);
  });
});

function raw(bytes: Uint8Array): string {
  writeFileSync(path, bytes);
  return path;
}

function corrupt(path: string, at: number, value: number): string {
  const bytes = readFileSync(path);
  bytes[at] = value;
  writeFileSync(path, bytes);
  return path;
}
