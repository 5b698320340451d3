/** Every kernel of the cuda backend. */
import type { CudaKernel } from '../driver/call.js';
import { attentionKernels } from './attention.js';
import { elementwiseKernels } from './elementwise.js';
import { embeddingKernels } from './embedding.js';
import { expertKernels } from './experts.js';
import { groupedLinearKernels } from './grouped-linear.js';
import { linearKernels } from './linear.js';
import { lossKernels } from './losses.js';
import { normKernels } from './norm.js';
import { optimizerKernels } from './optimizer.js';
import { predictorKernels } from './predictor.js';
import { rotaryKernels } from './rotary.js';
import { rotaryAttentionKernels } from './rotary-attention.js';
import { routingKernels } from './routing.js';
import { tfjsKernels } from './tfjs.js';
import { thresholdKernels } from './threshold.js';

/** Kernels of the project's ops. */
export const OP_KERNELS: readonly CudaKernel[] = [
  ...embeddingKernels,
  ...normKernels,
  ...linearKernels,
  ...rotaryKernels,
  ...attentionKernels,
  ...rotaryAttentionKernels,
  ...elementwiseKernels,
  ...routingKernels,
  ...thresholdKernels,
  ...predictorKernels,
  ...expertKernels,
  ...groupedLinearKernels,
  ...lossKernels,
  ...optimizerKernels,
];

export const CUDA_KERNELS: readonly CudaKernel[] = [...tfjsKernels, ...OP_KERNELS];
