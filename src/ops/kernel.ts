/**
 * The project's ops as tfjs kernels of its own names: each has a composed definition out of tfjs' own ops, and a
 * backend may register a faster kernel under the same name.
 */
import {
  engine,
  getBackend,
  getKernel,
  type NamedAttrMap,
  registerKernel,
  type Tensor,
  tidy,
} from '@tensorflow/tfjs-core';

export type KernelInputs = Record<string, Tensor | undefined>;

/** A kernel's name and what it computes; calling it runs the active backend's kernel of that name. */
export interface Kernel<I extends KernelInputs, A extends object, O extends Tensor[]> {
  (inputs: I, attrs: A): O;
  readonly kernelName: string;
  /** The reference: the same values from tfjs' own ops, on any tfjs backend. */
  readonly composed: (inputs: I, attrs: A) => O;
}

/** A kernel of the project that ran: `milliseconds` of wall time, but for those of the project's kernels that it ran itself. */
export interface KernelCall {
  kernelName: string;
  inputs: KernelInputs;
  attrs: object;
  outputs: Tensor[];
  milliseconds: number;
}

/** Told of every kernel of the project that ran, before its tensors go. */
export type KernelObserver = (call: KernelCall) => void;

/** Wall time of the observed kernels within the one that runs. */
let within = 0;
let observer: { tell: KernelObserver; settle: () => void } | null = null;

/**
 * Watches every kernel until called again with null. `settle` waits for the device, so that wall time is device time on
 * backends that only queue their work, too.
 */
export function observeKernels(tell: KernelObserver | null, settle: () => void = () => undefined): void {
  within = 0;
  observer = tell === null ? null : { tell, settle };
}

/**
 * Defines a kernel by its composed definition. Where the active backend has none of its own under this name, the
 * composed one is registered for it at its first use.
 */
export function defineKernel<I extends KernelInputs, A extends object, O extends Tensor[]>(
  kernelName: string,
  composed: (inputs: I, attrs: A) => O,
): Kernel<I, A, O> {
  const run = (inputs: I, attrs: A): O => {
    const backendName = getBackend();
    if (getKernel(kernelName, backendName) === undefined) {
      registerKernel({
        kernelName,
        backendName,
        kernelFunc: (call) => tidy(() => composed(call.inputs as unknown as I, call.attrs as unknown as A)),
      });
    }
    const started = observer === null ? 0 : performance.now();
    const before = within;
    within = 0;
    // tfjs' types want every input present; its engine does not.
    const outputs = engine().runKernel(kernelName, inputs as never, attrs as NamedAttrMap) as unknown as O;
    if (observer === null) return outputs;
    observer.settle();
    const milliseconds = performance.now() - started;
    observer.tell({ kernelName, inputs, attrs, outputs, milliseconds: milliseconds - within });
    within = before + milliseconds;
    return outputs;
  };
  return Object.assign(run, { kernelName, composed });
}
