/** Starts tfjs' WebAssembly backend with the project's kernels: the embedded default, one thread, float32. */
import '@tensorflow/tfjs-backend-wasm';
import { getBackend, ready, setBackend } from '@tensorflow/tfjs-core';
import { registerWasmKernels, WASM } from './heap.js';
import { WASM_KERNELS } from './kernels.js';

let registered = false;

/** Makes wasm the active backend; throws where it does not start. */
export async function startWasm(): Promise<void> {
  // setBackend answers false and stays with another backend where one does not start: ask again.
  await setBackend(WASM);
  await ready();
  if (getBackend() !== WASM) throw new Error('the WebAssembly backend did not start');
  if (registered) return;
  registered = true;
  registerWasmKernels(WASM_KERNELS);
}
