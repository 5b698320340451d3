/** The backends that tests run on. `cpu` has none of the project's kernels, so it runs every composed definition. */
import '@tensorflow/tfjs-backend-cpu';
import { getBackend, setBackend } from '@tensorflow/tfjs-core';
import type { BackendName } from '../../src/backends/names.js';
import { startTensorflow } from '../../src/backends/tensorflow/start.js';
import { startWasm } from '../../src/backends/wasm/start.js';
import { messageOf } from '../../src/errors.js';
import { cuda, useCuda } from './cuda.js';

export type TestBackend = 'cpu' | BackendName;

/** Why tensorflow is unavailable; null if tests run on it. */
export const tensorflowMissing: string | null = await startTensorflow().then(() => null, messageOf);
if (tensorflowMissing !== null) console.warn(`tests on tensorflow are skipped: ${tensorflowMissing}`);

interface BackendOfTests {
  isUsable: boolean;
  /** Makes it the active one. */
  use: () => Promise<unknown>;
}

const BACKENDS: Record<BackendName, BackendOfTests> = {
  wasm: { isUsable: true, use: () => startWasm() },
  tensorflow: { isUsable: tensorflowMissing === null, use: () => startTensorflow() },
  cuda: { isUsable: cuda.usable, use: () => useCuda('fp32') },
};

/** The available backends with kernels of the project; cuda in float32. */
export const FAST_BACKENDS = (Object.keys(BACKENDS) as BackendName[]).filter(
  (name) => BACKENDS[name].isUsable,
);
export const TEST_BACKENDS: TestBackend[] = ['cpu', ...FAST_BACKENDS];

export async function useBackend(name: TestBackend): Promise<void> {
  await (name === 'cpu' ? setBackend(name) : BACKENDS[name].use());
  if (getBackend() !== name) throw new Error(`${name} did not start`);
}
