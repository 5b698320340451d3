/** Starts @tensorflow/tfjs-node-gpu, an optional dependency, with the project's kernels; on the GPU if the machine has one. */
import { createRequire } from 'node:module';
import util from 'node:util';
import { engine, getBackend, ready, setBackend } from '@tensorflow/tfjs-core';
import { messageOf } from '../../errors.js';
import type { Precision } from '../precisions.js';
import { type NodeBackend, registerTensorflowKernels, TENSORFLOW } from './calls.js';
import { deviceProblem, hasNvidiaGpu } from './device.js';
import { CPU_KERNELS, DEVICE_KERNELS } from './kernels.js';
import { setProductPrecision } from './linear.js';
import { hasOperations, INSTALL_COMMAND, installedBinding, PACKAGE, packageFolder } from './package.js';
import { quietly } from './quietly.js';

let started: { onGpu: boolean } | null = null;

/**
 * Makes tensorflow the active backend.
 *
 * @returns onGpu: whether a GPU computes
 * @throws Error with the reason and what to do, if the package or its library is missing, or if TensorFlow does not use the
 *   machine's GPU
 */
export async function startTensorflow(precision: Precision = 'fp32'): Promise<{ onGpu: boolean }> {
  started ??= load();
  // If a backend does not start, setBackend returns false and another one stays active.
  await setBackend(TENSORFLOW);
  await ready();
  if (getBackend() !== TENSORFLOW) throw new Error(`${PACKAGE} was loaded but its backend did not start`);
  setProductPrecision(precision);
  return started;
}

/** Loads the package, which registers its backend, and registers the project's kernels. Call it once per process. */
function load(): { onGpu: boolean } {
  const folder = packageFolder();
  if (folder === null) throw new Error(`${PACKAGE} is not installed; install it with \`${INSTALL_COMMAND}\``);
  const binding = installedBinding(folder);
  if (binding === null)
    throw new Error(`${PACKAGE} has no native library; install it with \`${INSTALL_COMMAND}\``);
  supplyRemovedUtilities();
  try {
    quietly(() => createRequire(import.meta.url)(PACKAGE));
  } catch (error) {
    const [firstLine] = messageOf(error).split('\n');
    throw new Error(
      `${PACKAGE} cannot be loaded (${firstLine}); reinstall its library with \`${INSTALL_COMMAND}\``,
    );
  }
  const { isUsingGpuDevice: onGpu } = engine().findBackend(TENSORFLOW) as unknown as NodeBackend;
  const problem = deviceProblem({ machineHasGpu: hasNvidiaGpu(), onGpu });
  if (problem !== null) throw new Error(problem);
  registerTensorflowKernels(DEVICE_KERNELS);
  if (!onGpu) {
    if (!hasOperations(binding))
      throw new Error(
        `the library of ${PACKAGE} was built for another version of mod; rebuild it with \`${INSTALL_COMMAND}\``,
      );
    registerTensorflowKernels(CPU_KERNELS);
  }
  return { onGpu };
}

/** Restores the functions of `util` that the package calls and Node 23 removed. */
function supplyRemovedUtilities(): void {
  const old = util as unknown as Record<string, unknown>;
  old.isNullOrUndefined ??= (value: unknown) => value === null || value === undefined;
  old.isArray ??= Array.isArray;
}
