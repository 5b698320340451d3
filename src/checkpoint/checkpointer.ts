/** When a run's checkpoints are due, and writing them beside its training. */

import type { CheckpointPolicy } from '../config/checkpoint-policy.js';
import { bytes } from '../format.js';
import { type CheckpointFile, type CheckpointJob, checkpointFileBytes } from './folder.js';

export interface CheckpointerOptions {
  checkpoints: string;
  policy: CheckpointPolicy;
  /** Files that a checkpoint goes on from: on the disk before it counts. */
  after: string[];
  log: (line: string) => void;
  /** Puts one on the disk, beside training; injected in tests. */
  write: (job: CheckpointJob) => Promise<void>;
  /** Milliseconds; injected in tests. */
  now: () => number;
}

export class Checkpointer {
  private writing: Promise<void> | null = null;
  private failure: unknown = null;
  private lastStep: number;
  private lastTime: number;

  /** @param step of the checkpoint that the run goes on from; 0: the start */
  constructor(
    private readonly options: CheckpointerOptions,
    step: number,
  ) {
    this.lastStep = step;
    this.lastTime = options.now();
  }

  /** Whether one is due after a step. One that is being written is not waited for; one that failed is: `settle` throws. */
  due(step: number): boolean {
    if (this.failure !== null) return true;
    const now = this.options.now();
    if (now < this.lastTime) this.lastTime = now; // the clock was set back
    if (this.writing !== null || step === this.lastStep) return false;
    const { minutes, steps } = this.options.policy;
    return (steps > 0 && step % steps === 0) || (minutes > 0 && now - this.lastTime >= 60_000 * minutes);
  }

  /**
   * Begins to write a step's checkpoint, unless there is one of it.
   *
   * @param files reads them from the device: training stands still for as long as this takes
   * @throws DiskFullError, or whatever else went wrong with the one before
   */
  async begin(step: number, files: () => CheckpointFile[]): Promise<void> {
    await this.settle();
    if (step === this.lastStep) return;
    const { checkpoints, policy, after, log, write, now } = this.options;
    const started = now();
    const job = { checkpoints, step, files: files(), keep: policy.keep, after };
    const size = checkpointFileBytes(job.files);
    const read = now();
    this.lastStep = step;
    this.lastTime = read;
    this.writing = write(job).then(
      () => {
        this.writing = null;
        log(
          `checkpoint of step ${step}: ${bytes(size)}, read in ${seconds(read - started)}, written in ${seconds(now() - read)}`,
        );
      },
      (error) => {
        this.writing = null;
        this.failure = error;
      },
    );
  }

  /** Waits for the one that is being written. @throws DiskFullError, or whatever else went wrong with it */
  async settle(): Promise<void> {
    await this.writing;
    if (this.failure !== null) throw this.failure;
  }
}

const seconds = (ms: number) => `${(ms / 1000).toFixed(3)} s`;
