/** Every kernel of the tensorflow backend. Importing this loads no native library. */
import { attentionKernels } from './attention.js';
import type { TensorflowKernel } from './calls.js';
import { elementwiseKernels } from './elementwise.js';
import { embeddingKernels } from './embedding.js';
import { expertKernels } from './experts.js';
import { linearKernels } from './linear.js';
import { lossKernels } from './losses.js';
import { optimizerKernels } from './optimizer.js';
import { routingKernels } from './routing.js';
import { thresholdKernels } from './threshold.js';

/** Kernels that call TensorFlow's own operations, on a CPU or a GPU. */
export const DEVICE_KERNELS: readonly TensorflowKernel[] = [
  ...embeddingKernels,
  ...linearKernels,
  ...routingKernels,
  ...thresholdKernels,
  ...expertKernels,
  ...lossKernels,
  ...optimizerKernels,
];

/** Kernels that call the project's own operations (native/), which run on CPUs only: a GPU uses the composed definitions. */
export const CPU_KERNELS: readonly TensorflowKernel[] = [...attentionKernels, ...elementwiseKernels];

export const TENSORFLOW_KERNELS: readonly TensorflowKernel[] = [...DEVICE_KERNELS, ...CPU_KERNELS];
