/** The recorder that a backend may offer: it records the device work of a fixed sequence of ops and replays it (CUDA graphs). */
import type { Tensor } from '@tensorflow/tfjs-core';

/** Device work that reads and writes the same tensors at every replay. */
export interface Recording {
  /** The tensors that the recorded body returned. Every replay overwrites them; the recording owns them. */
  outputs: Tensor[];
  /** Queues the recorded work. */
  replay(): void;
  dispose(): void;
}

export interface Recorder {
  /**
   * Records a body instead of running it. The body must have run once before. It must neither create tensors from host values
   * nor read tensors back, and must make its updates in place.
   */
  record(body: () => Tensor[]): Recording;
  /** Sets a time mark in the body that is being recorded. */
  mark(): void;
  /** Milliseconds between consecutive marks in the last replay of the last recording; waits for it. */
  intervals(): number[];
  /** Size of a tensor on the device, in bytes. */
  bytesOf(tensor: Tensor): number;
  /** Overwrites a tensor's values in place, where recordings read them. */
  overwrite(tensor: Tensor, values: Float32Array | Int32Array): void;
}
