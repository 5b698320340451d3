/** Every kernel that a fast backend registers is one of src/ops and has a case, so that it is compared with its definition. */
import { readdirSync } from 'node:fs';
import { getKernelsForBackend } from '@tensorflow/tfjs-core';
import { beforeAll, describe, expect, it } from 'vitest';
import { CUDA } from '../../src/backends/cuda/backend.js';
import { OP_KERNELS } from '../../src/backends/cuda/kernels/all.js';
import { FAST_BACKENDS, useBackend } from '../support/backends.js';
import { KERNEL_CASES } from './kernel-cases.js';

const cases = new Set(KERNEL_CASES.map(({ kernel }) => kernel.kernelName));
const names = (kernels: Iterable<string>) => [...new Set(kernels)].sort();

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

describe('kernels', () => {
  let defined: Set<string>;
  beforeAll(async () => {
    defined = await definedKernels();
  });

  it('of src/ops have a case each', () => {
    expect(names(defined)).toEqual(names(cases));
  });

  // The list, so that this is tested on machines without a GPU as well.
  it('of cuda have a case each', () => {
    expect(OP_KERNELS.map(({ kernelName }) => kernelName).filter((name) => !cases.has(name))).toEqual([]);
  });

  it.each(FAST_BACKENDS.filter((name) => name !== CUDA))('of %s have a case each', async (backend) => {
    await useBackend(backend); // no composed definition has been registered for it yet
    const registered = getKernelsForBackend(backend).map(({ kernelName }) => kernelName);
    const own = registered.filter((name) => defined.has(name));
    expect(own.length).toBeGreaterThan(0);
    expect(own.filter((name) => !cases.has(name))).toEqual([]);
  });
});
