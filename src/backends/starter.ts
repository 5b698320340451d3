/** The interface of a backend's folder: how the backend starts in this process, and what `mod doctor` prints about it. */
import type { DecodeLoops } from '../ops/decode-loop.js';
import type { Recorder } from '../ops/recording.js';
import type { Precision, RequestedPrecision } from './precisions.js';

export interface BackendStarter {
  /**
   * Makes the backend the active one.
   *
   * @param deterministic `training.deterministic`; only cuda has a faster, non-deterministic mode
   * @throws Error that names what is missing on this machine
   */
  start: (precision: RequestedPrecision, deterministic: boolean) => Promise<StartedBackend>;
  /** Lines for `mod doctor`: what to do about a backend that does not start. */
  advice: () => string[];
  /** Lines for `mod doctor`: the libraries of a backend that starts. */
  libraries: () => string[];
}

/** The backend that computes in this process. */
export interface StartedBackend {
  /** Name of the GPU or CPU that computes. */
  device: string;
  precision: Precision;
  /** Peak memory of this process: of the GPU if one computes, else resident in RAM. */
  peakMemoryBytes: () => number;
  /** Memory of the GPU that computes, in bytes: all of it, and what no process uses now; null for the machine's own memory. */
  memory: () => { total: number; free: number } | null;
  /** Peak FLOP/s of the device in this precision; null if unknown. */
  peakFlopsPerSecond: number | null;
  /** Peak bandwidth of the device's memory in bytes/s; null if unknown. */
  peakBytesPerSecond: number | null;
  /** Records a training step and replays it; null if unsupported. */
  recorder: Recorder | null;
  /** Runs decoding steps without the host; null if unsupported. */
  decodeLoops: DecodeLoops | null;
}

/** For a backend that computes on the host, or whose GPU's properties are unknown. */
export const HOST_ONLY: Omit<StartedBackend, 'device' | 'precision'> = {
  peakMemoryBytes: () => process.resourceUsage().maxRSS * 1024,
  memory: () => null,
  peakFlopsPerSecond: null,
  peakBytesPerSecond: null,
  recorder: null,
  decodeLoops: null,
};
