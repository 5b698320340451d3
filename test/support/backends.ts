/** The backends that tests run on. `cpu` has none of the project's kernels, so it runs every composed definition. */
import '@tensorflow/tfjs-backend-cpu';
import { getBackend, setBackend } from '@tensorflow/tfjs-core';
import { startTensorflow } from '../../src/backends/tensorflow/start.js';
import { startWasm } from '../../src/backends/wasm/start.js';
import { messageOf } from '../../src/errors.js';
import { cuda, useCuda } from './cuda.js';

export type TestBackend = 'cpu' | 'wasm' | 'tensorflow' | 'cuda';

/** Why tensorflow is unavailable; null if tests run on it. */
export const tensorflowMissing: string | null = await startTensorflow().then(() => null, messageOf);
if (tensorflowMissing !== null) console.warn(`tests on tensorflow are skipped: ${tensorflowMissing}`);

/** The available backends with kernels of the project; cuda in float32. */
export const FAST_BACKENDS: TestBackend[] = [
  'wasm',
  ...(tensorflowMissing === null ? ['tensorflow' as const] : []),
  ...(cuda.usable ? ['cuda' as const] : []),
];
export const TEST_BACKENDS: TestBackend[] = ['cpu', ...FAST_BACKENDS];

export async function useBackend(name: TestBackend): Promise<void> {
  if (name === 'wasm') await startWasm();
  else if (name === 'tensorflow') await startTensorflow();
  else if (name === 'cuda') await useCuda('fp32');
  else await setBackend(name);
  if (getBackend() !== name) throw new Error(`${name} did not start`);
}
