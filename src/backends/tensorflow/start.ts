/** Starts @tensorflow/tfjs-node-gpu, an optional dependency, with the project's kernels; on a GPU's machine, on the GPU. */
import { createRequire } from 'node:module';
import util from 'node:util';
import { engine, getBackend, ready, setBackend } from '@tensorflow/tfjs-core';
import { messageOf } from '../../errors.js';
import type { Precision } from '../precisions.js';
import { type NodeBackend, registerTensorflowKernels, TENSORFLOW } from './calls.js';
import { hasNvidiaGpu, refuseDevice } from './device.js';
import { CPU_KERNELS, DEVICE_KERNELS } from './kernels.js';
import { setProductPrecision } from './linear.js';
import { hasOperations, INSTALL_COMMAND, installedBinding, PACKAGE, packageFolder } from './package.js';
import { quietly } from './quietly.js';

let started: { onGpu: boolean } | null = null;

/**
 * Makes tensorflow the active backend; says whether a GPU computes. Throws, saying why and what to do, where the
 * package or its library is missing, or where the machine has a GPU that TensorFlow does not see.
 */
export async function startTensorflow(precision: Precision = 'fp32'): Promise<{ onGpu: boolean }> {
  started ??= load();
  // setBackend answers false and stays with another backend where one does not start: ask again.
  await setBackend(TENSORFLOW);
  await ready();
  if (getBackend() !== TENSORFLOW) throw new Error(`${PACKAGE} was loaded, but its backend did not start`);
  setProductPrecision(precision);
  return started;
}

/** Loads the package, which registers its backend, and registers the project's kernels; once in a process. */
function load(): { onGpu: boolean } {
  const folder = packageFolder();
  if (folder === null) throw new Error(`${PACKAGE} is not installed: run ${INSTALL_COMMAND}`);
  const binding = installedBinding(folder);
  if (binding === null) throw new Error(`${PACKAGE} lacks its native library: run ${INSTALL_COMMAND}`);
  supplyRemovedUtilities();
  try {
    quietly(() => createRequire(import.meta.url)(PACKAGE));
  } catch (error) {
    const [firstLine] = messageOf(error).split('\n');
    throw new Error(`${PACKAGE} does not load (${firstLine}): run ${INSTALL_COMMAND}`);
  }
  const { isUsingGpuDevice: onGpu } = engine().findBackend(TENSORFLOW) as unknown as NodeBackend;
  const refusal = refuseDevice({ machineHasGpu: hasNvidiaGpu(), onGpu });
  if (refusal !== null) throw new Error(refusal);
  registerTensorflowKernels(DEVICE_KERNELS);
  if (!onGpu) {
    if (!hasOperations(binding))
      throw new Error(`${PACKAGE} lacks this version's own operations: run ${INSTALL_COMMAND}`);
    registerTensorflowKernels(CPU_KERNELS);
  }
  return { onGpu };
}

/** The package calls functions that Node 23 removed from `util`. */
function supplyRemovedUtilities(): void {
  const old = util as unknown as Record<string, unknown>;
  old.isNullOrUndefined ??= (value: unknown) => value === null || value === undefined;
  old.isArray ??= Array.isArray;
}
