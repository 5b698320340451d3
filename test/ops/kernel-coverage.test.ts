/** Every kernel of src/ops and of the backends has a case, so that all are compared with their composed definitions. */
import { readdirSync, readFileSync } from 'node:fs';
import { expect, it } from 'vitest';
import { OP_KERNELS } from '../../src/backends/cuda/kernels/all.js';
import type { BackendName } from '../../src/backends/names.js';
import { TENSORFLOW_KERNELS } from '../../src/backends/tensorflow/kernels.js';
import { WASM_KERNELS } from '../../src/backends/wasm/kernels.js';
import { KERNEL_CASES } from './kernel-cases.js';

const cases = new Set(KERNEL_CASES.map(({ kernel }) => kernel.kernelName));

/** Names of the kernels that the files of src/ops define. */
async function definedKernels(): Promise<Set<string>> {
  const folder = new URL('../../src/ops/', import.meta.url);
  const files = readdirSync(folder).filter((name) => name.endsWith('.ts'));
  const modules: object[] = await Promise.all(
    files.map((file) => import(new URL(file.replace(/\.ts$/, '.js'), folder).href)),
  );
  const exported: unknown[] = modules.flatMap((module) => Object.values(module));
  return new Set(
    exported.flatMap((value) =>
      typeof value === 'function' && 'kernelName' in value ? [value.kernelName as string] : [],
    ),
  );
}

it('every kernel of src/ops has a case, and every case is of such a kernel', async () => {
  expect([...(await definedKernels())].sort()).toEqual([...cases].sort());
});

// The lists need no native library, so that this is tested on every machine.
const KERNELS: Record<BackendName, readonly { kernelName: string }[]> = {
  cuda: OP_KERNELS,
  tensorflow: TENSORFLOW_KERNELS,
  wasm: WASM_KERNELS,
};
it.each(Object.entries(KERNELS))('every kernel of %s has a case, and none is listed twice', (_, kernels) => {
  const names = kernels.map(({ kernelName }) => kernelName);
  expect(names.filter((name) => !cases.has(name))).toEqual([]);
  expect(new Set(names).size).toBe(names.length);
});

it('every op with a gradient has a case in gradients.test.ts', () => {
  const folder = new URL('../../src/ops/', import.meta.url);
  const recording = readdirSync(folder).filter((name) =>
    /\btape\??\.record\(/.test(readFileSync(new URL(name, folder), 'utf8')),
  );
  const cases = readFileSync(new URL('gradients.test.ts', import.meta.url), 'utf8');
  expect(recording.length).toBeGreaterThan(10);
  expect(recording.filter((name) => !cases.includes(`/ops/${name.replace(/\.ts$/, '.js')}'`))).toEqual([]);
});
