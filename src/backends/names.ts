/** The backends, in the order in which `auto` tries them, with the properties that are needed before their code is loaded. */
import type { BackendStarter } from './starter.js';

interface BackendEntry {
  /** What one training process keeps busy: `--jobs auto` runs one process for each of these. */
  occupies: 'core' | 'gpu';
  /** Whether activations are bfloat16 if the products are. */
  bf16Activations: boolean;
  /** Number of tensors of the logits' size that are in memory at once in the backward pass. */
  logitTensors: number;
  /** Bytes of activations that a micro-batch may save for its backward pass where the GPU's memory size is unknown. */
  activationBytes: number;
  load: () => Promise<BackendStarter>;
}

const GiB = 2 ** 30;

const entries = {
  cuda: {
    occupies: 'gpu',
    bf16Activations: true,
    logitTensors: 1, // the gradient overwrites the logits
    activationBytes: 4 * GiB,
    load: async () => (await import('./cuda/starter.js')).cudaStarter,
  },
  tensorflow: {
    occupies: 'gpu',
    bf16Activations: false,
    logitTensors: 2,
    activationBytes: 2 * GiB,
    load: async () => (await import('./tensorflow/starter.js')).tensorflowStarter,
  },
  wasm: {
    occupies: 'core', // it has one thread
    bf16Activations: false,
    logitTensors: 2,
    activationBytes: GiB / 2, // its address space has 4 GiB
    load: async () => (await import('./wasm/starter.js')).wasmStarter,
  },
} satisfies Record<string, BackendEntry>;

export type BackendName = keyof typeof entries;
export const BACKENDS: Readonly<Record<BackendName, BackendEntry>> = entries;
export const BACKEND_NAMES: readonly BackendName[] = Object.keys(entries) as BackendName[];

/** `auto`: the first that works on this machine. */
export const REQUESTED_BACKENDS = ['auto', ...BACKEND_NAMES] as const;
export type RequestedBackend = (typeof REQUESTED_BACKENDS)[number];
