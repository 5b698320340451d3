/** Every kernel file compiles without headers for every supported architecture; a damaged cache is compiled again. */
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { Compiler } from '../../../src/backends/cuda/driver/compiler.js';
import { readCache, writeCache } from '../../../src/backends/cuda/driver/disk-cache.js';
import {
  KERNEL_FILES,
  type KernelFile,
  kernelDefinitions,
  kernelSource,
} from '../../../src/backends/cuda/kernels/files.js';
import { libraries } from '../../support/cuda-libraries.js';

const { path } = libraries.nvrtc;
const folder = mkdtempSync(join(tmpdir(), 'mod-cuda-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** Milliseconds; the largest file takes tens of seconds on a busy machine. */
const COMPILE_TIMEOUT = 300_000;
/** A file's source without common.cu. */
const sourceOf = (file: KernelFile) =>
  kernelSource(file).slice(kernelSource('elementwise').indexOf('#line 1 "elementwise.cu"'));
const ELF = '\x7fELF';
const SOURCE = 'extern "C" __global__ void nothing() {}';

describe.skipIf(path === null)('NVRTC', () => {
  const compiler = path === null ? (null as never) : new Compiler(path);

  const supported = new Set(path === null ? [] : compiler.architectures());
  const architectures = [80, 90, 100].filter((architecture) => supported.has(architecture));
  // What one architecture compiles the others do too, but for files with instructions of their own; elementwise has common.cu's.
  const own = KERNEL_FILES.filter((file) => file === 'elementwise' || sourceOf(file).includes('asm'));
  const cases = architectures.flatMap((architecture) =>
    (architecture === 90 ? KERNEL_FILES : own).map((file) => ({ file, architecture })),
  );
  it.each(cases)(
    'compiles $file for sm_$architecture, in bf16 and, for sm_90, in float32',
    { timeout: COMPILE_TIMEOUT },
    ({ file, architecture }) => {
      for (const storage of architecture === 90
        ? (['float32', 'bfloat16'] as const)
        : (['bfloat16'] as const)) {
        const cubin = compiler.compile(file, kernelSource(file), architecture, kernelDefinitions(storage));
        expect(cubin.toString('latin1', 0, 4), storage).toBe(ELF);
      }
    },
  );

  it('reports the compiler log of a wrong source', () => {
    expect(() => compiler.compile('bad', 'extern "C" __global__ void f() { undeclared(); }', 80)).toThrow(
      /failed to compile bad:\n.*undeclared/s,
    );
  });

  it.each([
    ['truncated', (file: Buffer) => file.subarray(0, file.length - 7)],
    [
      'altered',
      (file: Buffer) => Buffer.from(file.map((byte, i) => (i === file.length - 1 ? byte ^ 1 : byte))),
    ],
    ['another kind of file', () => Buffer.from('{"not": "a cubin"}')],
    ['empty', () => Buffer.alloc(0)],
  ])('compiles again if its cache file is %s', (what, damage) => {
    const own = join(folder, what);
    const first = compiler.cached('nothing', SOURCE, 80, [], own);
    const [name] = readdirSync(own) as [string];
    const file = readFileSync(join(own, name));
    writeFileSync(join(own, name), damage(file));
    expect(compiler.cached('nothing', SOURCE, 80, [], own).equals(first)).toBe(true);
    expect(readFileSync(join(own, name)).equals(file)).toBe(true);
  });
});

describe('a cache file', () => {
  it('returns what was written', () => {
    const file = join(folder, 'kept', 'x.cubin');
    writeCache(file, Buffer.from('content'));
    expect(readCache(file)?.toString()).toBe('content');
  });

  it('may be missing or impossible to write', () => {
    expect(readCache(join(folder, 'missing'))).toBeNull();
    expect(() => writeCache('/dev/null/x', Buffer.from('content'))).not.toThrow();
  });
});
