/** The backends that tests run on: `cpu` knows none of the project's kernels, so it runs every composed definition. */
import '@tensorflow/tfjs-backend-cpu';
import { getBackend, setBackend } from '@tensorflow/tfjs-core';
import { startWasm } from '../../src/backends/wasm/start.js';

export const TEST_BACKENDS = ['cpu', 'wasm'] as const;
export type TestBackend = (typeof TEST_BACKENDS)[number];

export async function useBackend(name: TestBackend): Promise<void> {
  if (name === 'wasm') await startWasm();
  else await setBackend(name);
  if (getBackend() !== name) throw new Error(`${name} did not start`);
}
