/** Starts tfjs' WebAssembly backend with the project's kernels: the embedded default, one thread, float32. */
import '@tensorflow/tfjs-backend-wasm';
import { getBackend, ready, setBackend } from '@tensorflow/tfjs-core';
import { registerAttention } from './attention.js';
import { registerDecodeAttention } from './decode-attention.js';
import { registerElementwise } from './elementwise.js';
import { registerExperts } from './experts.js';
import { WASM } from './heap.js';
import { registerLinear } from './linear.js';
import { registerOptimizer } from './optimizer.js';
import { registerTokens } from './tokens.js';

let registered = false;

/** Makes wasm the active backend; throws where it does not start. */
export async function startWasm(): Promise<void> {
  // setBackend answers false and stays with another backend where one does not start: ask again.
  await setBackend(WASM);
  await ready();
  if (getBackend() !== WASM) throw new Error('the WebAssembly backend did not start');
  if (registered) return;
  registered = true;
  registerLinear();
  registerAttention();
  registerDecodeAttention();
  registerElementwise();
  registerTokens();
  registerExperts();
  registerOptimizer();
}
