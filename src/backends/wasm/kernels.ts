/** Every kernel of the wasm backend. */
import { attentionKernels } from './attention.js';
import { decodeKernels } from './decode-attention.js';
import { elementwiseKernels } from './elementwise.js';
import { expertKernels } from './experts.js';
import type { WasmKernel } from './heap.js';
import { linearKernels } from './linear.js';
import { optimizerKernels } from './optimizer.js';
import { tokenKernels } from './tokens.js';

export const WASM_KERNELS: readonly WasmKernel[] = [
  ...linearKernels,
  ...attentionKernels,
  ...decodeKernels,
  ...elementwiseKernels,
  ...tokenKernels,
  ...expertKernels,
  ...optimizerKernels,
];
