/** The GPUs of a sweep: which slot has which, which were lost, and which run failed on which. */

/** What a failed run and its GPU are judged by. */
export interface GpuFailure {
  runId: string;
  gpu: string;
  /** Why the GPU does not work in a new process; null if it works there. */
  lost: string | null;
  /** Whether the run's process reported a failure of the device, or hung. */
  isOfDevice: boolean;
}

export class GpuPool {
  /** One line for each GPU that was lost, in the order of the losses. */
  readonly lost: string[] = [];
  private readonly lostGpus = new Set<string>();
  /** The GPUs on which each run has failed. */
  private readonly failures = new Map<string, Set<string>>();
  /** The GPU of each slot; the others are spare. */
  private readonly assigned: string[];

  /**
   * @param names for CUDA_VISIBLE_DEVICES; empty for the GPU that CUDA finds by itself
   * @param isSelection whether a process must be limited to one of them: the machine has others
   * @param slots runs that train in parallel; several may share a GPU
   */
  constructor(
    private readonly names: readonly string[],
    private readonly isSelection: boolean,
    slots: number,
  ) {
    this.assigned = Array.from({ length: slots }, (_, slot) => names[slot % names.length] ?? '');
  }

  /** The GPU of a slot; '' for the one that CUDA finds by itself. */
  of(slot: number): string {
    return this.assigned[slot] ?? '';
  }

  /** Environment that limits a process to a GPU. */
  environment(gpu: string): Record<string, string> {
    return this.isSelection ? { CUDA_VISIBLE_DEVICES: gpu } : {};
  }

  /** Whether a run may start in a slot: its GPU works, and the run has not failed on it. */
  accepts(runId: string, slot: number): boolean {
    const gpu = this.of(slot);
    return !this.lostGpus.has(gpu) && this.failures.get(runId)?.has(gpu) !== true;
  }

  /** The GPUs on which a run has failed. */
  failedOn(runId: string): string[] {
    return [...(this.failures.get(runId) ?? [])];
  }

  /**
   * Retires a GPU that does not work any more; a spare one takes its place. The failure is the GPU's if it was lost or failed
   * in its driver, until the run has failed on a second one.
   *
   * @returns `again`: the run goes back to the queue, for another GPU
   */
  judge({ runId, gpu, lost, isOfDevice }: GpuFailure): 'again' | 'failed' {
    if (lost !== null && !this.lostGpus.has(gpu)) {
      this.lostGpus.add(gpu);
      this.lost.push(`${gpuName(gpu)} is lost, no more runs start on it: ${lost}`);
    }
    if (lost === null && !isOfDevice) return 'failed';
    const failed = this.failures.get(runId) ?? new Set();
    this.failures.set(runId, failed.add(gpu));
    const spare = this.names.find((name) => !this.assigned.includes(name) && !this.lostGpus.has(name));
    if (spare !== undefined) {
      this.assigned.forEach((name, slot) => {
        if (name === gpu) this.assigned[slot] = spare;
      });
    }
    const hasOther = this.assigned.some((name) => !this.lostGpus.has(name) && !failed.has(name));
    return failed.size < 2 && hasOther ? 'again' : 'failed';
  }
}

/** For messages. */
export function gpuName(gpu: string): string {
  return gpu === '' ? 'the GPU' : /^\d+$/.test(gpu) ? `GPU ${gpu}` : gpu;
}
