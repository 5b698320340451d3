/**
 * The project's ops as tfjs kernels: each has a composed definition in tfjs' own ops, and a backend may register a faster
 * kernel under the same name.
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

/** A kernel's name and definition. Calling it runs the active backend's kernel of that name. */
export interface Kernel<I extends KernelInputs, A extends object, O extends Tensor[]> {
  (inputs: I, attrs: A): O;
  readonly kernelName: string;
  /** The reference implementation, in tfjs' own ops, which runs on any tfjs backend. */
  readonly composed: (inputs: I, attrs: A) => O;
}

/** One call of a kernel of the project. `milliseconds` is wall time, excluding the project's kernels that it called. */
export interface KernelCall {
  kernelName: string;
  inputs: KernelInputs;
  attrs: object;
  outputs: Tensor[];
  milliseconds: number;
}

/** Called after every call of a kernel of the project, before its tensors are freed. */
export type KernelObserver = (call: KernelCall) => void;

/** Wall time of the observed calls nested in the current one, in milliseconds. */
let nested = 0;
let observer: { notify: KernelObserver; synchronize: () => void } | null = null;

/**
 * Observes every kernel call until it is called again with null. `synchronize` waits for the device after each call, so that
 * wall time is device time on backends that queue their work.
 */
export function observeKernels(
  notify: KernelObserver | null,
  synchronize: () => void = () => undefined,
): void {
  nested = 0;
  observer = notify === null ? null : { notify, synchronize };
}

/**
 * Defines a kernel by its composed definition, which is registered on first use for a backend that has no kernel of this
 * name.
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
    const before = nested;
    nested = 0;
    // tfjs' types require every input; its engine does not.
    const outputs = engine().runKernel(kernelName, inputs as never, attrs as NamedAttrMap) as unknown as O;
    if (observer === null) return outputs;
    observer.synchronize();
    const milliseconds = performance.now() - started;
    observer.notify({ kernelName, inputs, attrs, outputs, milliseconds: milliseconds - nested });
    nested = before + milliseconds;
    return outputs;
  };
  return Object.assign(run, { kernelName, composed });
}
