/** What a backend offers that can record the device work of a fixed sequence of ops once and run it again at no cost. */
import type { Tensor } from '@tensorflow/tfjs-core';

/** Device work that reads and writes the same tensors each time. */
export interface Recording {
  /** What the recorded body returned: every replay gives them new values. The recording owns them. */
  outputs: Tensor[];
  /** Queues the work. */
  replay(): void;
  dispose(): void;
}

export interface Recorder {
  /**
   * Records a body instead of running it. The body must have run before, must make no tensor from host values and read
   * none; what it updates it must update in place.
   */
  record(body: () => Tensor[]): Recording;
  /** While a body is recorded: a moment of it, whose time every replay takes. */
  mark(): void;
  /** Milliseconds from each moment of the last recording to the next, in its last replay, which is waited for. */
  intervals(): number[];
  /** Bytes of a tensor as the device stores it. */
  bytesOf(tensor: Tensor): number;
  /** Writes new values over a tensor's, in the place where recordings read it. */
  overwrite(tensor: Tensor, values: Float32Array | Int32Array): void;
}
