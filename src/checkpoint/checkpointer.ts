/** Decides when a run's checkpoints are due, and writes them while training continues. */
import type { CheckpointPolicy } from '../config/checkpoint-policy.js';
import { bytes } from '../format.js';
import { type CheckpointFile, type CheckpointJob, checkpointFileBytes } from './folder.js';

export interface CheckpointerOptions {
  checkpoints: string;
  policy: CheckpointPolicy;
  /** Files that the checkpoint depends on: flushed to disk before it becomes valid. */
  after: string[];
  log: (line: string) => void;
  /** Writes a checkpoint without blocking training; injected in tests. */
  write: (job: CheckpointJob) => Promise<void>;
  /** Milliseconds; injected in tests. */
  now: () => number;
}

export class Checkpointer {
  private writing: Promise<void> | null = null;
  private failure: unknown = null;
  private lastStep: number;
  private lastTime: number;

  /** @param step the step that the run resumed from; 0: the start */
  constructor(
    private readonly options: CheckpointerOptions,
    step: number,
  ) {
    this.lastStep = step;
    this.lastTime = options.now();
  }

  /**
   * Whether a checkpoint is due after a step. False while one is being written; true after one has failed, since the next
   * `begin` throws its error.
   */
  due(step: number): boolean {
    if (this.failure !== null) return true;
    const now = this.options.now();
    if (now < this.lastTime) this.lastTime = now; // the clock was set back
    if (this.writing !== null || step === this.lastStep) return false;
    const { minutes, steps } = this.options.policy;
    return (steps > 0 && step % steps === 0) || (minutes > 0 && now - this.lastTime >= 60_000 * minutes);
  }

  /**
   * Starts to write a step's checkpoint, unless it is already written.
   *
   * @param files reads the checkpoint's content from the device; training waits for this call
   * @throws DiskFullError, or another error of the previous checkpoint
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

  /** Waits for the checkpoint that is being written. @throws DiskFullError, or another error of writing it */
  async settle(): Promise<void> {
    await this.writing;
    if (this.failure !== null) throw this.failure;
  }
}

const seconds = (ms: number) => `${(ms / 1000).toFixed(3)} s`;
