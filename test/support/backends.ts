/** The backends that tests run on: `cpu` knows none of the project's kernels, so it runs every composed definition. */
import '@tensorflow/tfjs-backend-cpu';
import { getBackend, setBackend } from '@tensorflow/tfjs-core';
import { startTensorflow } from '../../src/backends/tensorflow/start.js';
import { startWasm } from '../../src/backends/wasm/start.js';
import { messageOf } from '../../src/errors.js';

export type TestBackend = 'cpu' | 'wasm' | 'tensorflow';

/** Why tests do not run on tensorflow here; null where they do. */
export const tensorflowMissing: string | null = await startTensorflow().then(() => null, messageOf);
if (tensorflowMissing !== null) console.warn(`tests on tensorflow are skipped: ${tensorflowMissing}`);

/** The backends that have kernels of the project's own, as far as they are here. */
export const FAST_BACKENDS: TestBackend[] = [
  'wasm',
  ...(tensorflowMissing === null ? ['tensorflow' as const] : []),
];
export const TEST_BACKENDS: TestBackend[] = ['cpu', ...FAST_BACKENDS];

export async function useBackend(name: TestBackend): Promise<void> {
  if (name === 'wasm') await startWasm();
  else if (name === 'tensorflow') await startTensorflow();
  else await setBackend(name);
  if (getBackend() !== name) throw new Error(`${name} did not start`);
}
