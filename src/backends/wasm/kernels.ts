/** Every kernel of the wasm backend. */
import { attentionKernels } from './attention.js';
import { decodeKernels } from './decode-attention.js';
import { embeddingKernels } from './embedding.js';
import { expertKernels } from './experts.js';
import { geluKernels } from './gelu.js';
import type { WasmKernel } from './heap.js';
import { linearKernels } from './linear.js';
import { lossKernels } from './losses.js';
import { normKernels } from './norm.js';
import { optimizerKernels } from './optimizer.js';
import { routingKernels } from './routing.js';
import { thresholdKernels } from './threshold.js';

export const WASM_KERNELS: readonly WasmKernel[] = [
  ...embeddingKernels,
  ...normKernels,
  ...linearKernels,
  ...attentionKernels,
  ...decodeKernels,
  ...geluKernels,
  ...routingKernels,
  ...thresholdKernels,
  ...expertKernels,
  ...lossKernels,
  ...optimizerKernels,
];
