/** Starts tfjs' WebAssembly backend with the project's kernels: the default that needs no installation; one thread, float32. */
import '@tensorflow/tfjs-backend-wasm';
import { getBackend, ready, setBackend } from '@tensorflow/tfjs-core';
import { registerWasmKernels, WASM } from './heap.js';
import { WASM_KERNELS } from './kernels.js';

let registered = false;

/** Makes wasm the active backend. */
export async function startWasm(): Promise<void> {
  // If a backend does not start, setBackend returns false and another one stays active.
  await setBackend(WASM);
  await ready();
  if (getBackend() !== WASM) throw new Error('the WebAssembly backend did not start');
  if (registered) return;
  registered = true;
  registerWasmKernels(WASM_KERNELS);
}
