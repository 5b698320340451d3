/** The project's kernels compile, without headers, for every architecture that is supported; the cache is never trusted. */
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { Compiler, readCache, writeCache } from '../../../src/backends/cuda/driver/compiler.js';
import { KERNEL_FILES, kernelDefinitions, kernelSource } from '../../../src/backends/cuda/kernels/files.js';
import { GATE_CODES } from '../../../src/backends/cuda/kernels/gate.js';
import { libraries } from '../../support/cuda-libraries.js';

const { path } = libraries.nvrtc;
const folder = mkdtempSync(join(tmpdir(), 'mod-cuda-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const ELF = '\x7fELF';
const SOURCE = 'extern "C" __global__ void nothing() {}';

const KERNELS = new URL('../../../src/backends/cuda/kernels/', import.meta.url);
const sourceOf = (file: string) => readFileSync(new URL(`${file}.cu`, KERNELS), 'utf8');

it('every file of kernels/ is compiled: on its own, or included by one that is', () => {
  const included = (text: string): string[] =>
    [...text.matchAll(/^#include "(.+)\.cu"$/gm)].flatMap(([, part = '']) => [
      part,
      ...included(sourceOf(part)),
    ]);
  const compiled = [...KERNEL_FILES, 'common', ...KERNEL_FILES.flatMap((file) => included(sourceOf(file)))];
  const files = readdirSync(KERNELS).flatMap((name) => (name.endsWith('.cu') ? [name.slice(0, -3)] : []));
  expect([...new Set(compiled)].sort()).toEqual(files.sort());
});

it.each(Object.entries(GATE_CODES))('gate.cu has a value and a slope of the gate %s', (gate, code) => {
  const name = `GATE_${gate.toUpperCase()}`;
  const source = sourceOf('gate');
  expect(source).toMatch(new RegExp(`^#define ${name} +${code}\\b`, 'm'));
  expect(source.match(new RegExp(`case ${name}:`, 'g'))).toHaveLength(2);
});

describe.skipIf(path === null)('NVRTC', () => {
  const compiler = path === null ? (null as never) : new Compiler(path);

  const known = new Set(path === null ? [] : compiler.architectures());
  it.each([80, 90, 100].filter((architecture) => known.has(architecture)))(
    'compiles every kernel for sm_%i, in float32 and in bf16',
    (architecture) => {
      for (const file of KERNEL_FILES) {
        for (const storage of ['float32', 'bfloat16'] as const) {
          const cubin = compiler.compile(file, kernelSource(file), architecture, kernelDefinitions(storage));
          expect(cubin.toString('latin1', 0, 4), `${file} ${storage}`).toBe(ELF);
        }
      }
    },
  );

  it('says what is wrong with a source', () => {
    expect(() => compiler.compile('bad', 'extern "C" __global__ void f() { undeclared(); }', 80)).toThrow(
      /failed to compile bad:\n.*undeclared/s,
    );
  });

  it.each([
    ['cut short', (file: Buffer) => file.subarray(0, file.length - 7)],
    [
      'altered',
      (file: Buffer) => Buffer.from(file.map((byte, i) => (i === file.length - 1 ? byte ^ 1 : byte))),
    ],
    ['of something else', () => Buffer.from('{"not": "a cubin"}')],
    ['empty', () => Buffer.alloc(0)],
  ])('compiles anew where its cache file is %s', (what, spoil) => {
    const own = join(folder, what);
    const first = compiler.cached('nothing', SOURCE, 80, [], own);
    const [name] = readdirSync(own) as [string];
    const file = readFileSync(join(own, name));
    writeFileSync(join(own, name), spoil(file));
    expect(compiler.cached('nothing', SOURCE, 80, [], own).equals(first)).toBe(true);
    expect(readFileSync(join(own, name)).equals(file)).toBe(true);
  });
});

describe('a cache file', () => {
  it('gives back what was written', () => {
    const file = join(folder, 'kept', 'x.cubin');
    writeCache(file, Buffer.from('content'));
    expect(readCache(file)?.toString()).toBe('content');
  });

  it('that is not there, or cannot be written, is no error', () => {
    expect(readCache(join(folder, 'missing'))).toBeNull();
    expect(() => writeCache('/dev/null/x', Buffer.from('content'))).not.toThrow();
  });
});
