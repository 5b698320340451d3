/** The fastest algorithm for a product, or the fastest variant of a kernel: measured once on this GPU, cached on disk. */
import { createHash } from 'node:crypto';
import { cacheFile, kernelCacheFolder, readCache, writeCache } from './disk-cache.js';
import type { Address, Driver } from './driver.js';

/** Timed runs, after one warm-up: of every candidate first, then of the few fastest (`FINALISTS`). */
const FIRST_RUNS = 1;
const RUNS = 3;
const FINALISTS = 4;
/** Milliseconds between two writes of the choices: a first step measures dozens of products in a row. */
const WRITE_EVERY = 5000;
/** Bytes of memory above which the algorithms of a product that is added to its result are not measured. */
const LARGEST_SCRATCH = 2 ** 30;

/** Those with choices to write when the process exits. */
const unsaved = new Set<ProductTuning>();
process.once('exit', () => {
  for (const tuning of unsaved) tuning.save();
});

export class ProductTuning {
  private readonly path: string | null;
  /** By product: the fastest algorithm in hexadecimal, or the index of the fastest variant. */
  private readonly choices: Map<string, string>;
  /** Choices that are not in the file yet, and when it was last written, in milliseconds. */
  private readonly unsaved = new Map<string, string>();
  private savedAt = Number.NEGATIVE_INFINITY;

  /** @param library cuBLASLt's version: algorithms differ between versions */
  constructor(
    private readonly driver: Driver,
    library: string,
    /** Whether work runs at once: nothing can be measured during a recording. */
    private readonly mayRun: () => boolean,
    folder = kernelCacheFolder(),
  ) {
    const digest = createHash('sha256')
      .update(`${library}\0${driver.deviceName}\0${driver.driverVersion}`)
      .digest('hex');
    this.path = cacheFile(folder, `products-${digest.slice(0, 32)}.json`);
    this.choices = storedChoices(this.path);
  }

  /**
   * The fastest of the candidates for a product: the stored choice if it is still a candidate, else measured by running
   * each, into the result itself.
   *
   * @param scratch bytes of other memory to run into, for a product that is added to its result; it is returned to the driver at
   *   once, since only the first step measures
   */
  fastestAlgorithm(
    product: string,
    candidates: Uint8Array[],
    result: Address,
    scratch: number,
    run: (algorithm: Uint8Array, result: Address) => void,
  ): Uint8Array {
    const [first] = candidates as [Uint8Array];
    if (candidates.length === 1 || scratch > LARGEST_SCRATCH || !this.mayRun()) return first;
    const choice = this.choices.get(product);
    const stored = candidates.find((candidate) => hex(candidate) === choice);
    if (stored !== undefined) return stored;
    const other = scratch === 0 ? null : this.driver.allocate(scratch);
    if (scratch > 0 && other === null) return first;
    try {
      const timed = (some: readonly Uint8Array[], runs: number) =>
        some
          .map((candidate) => ({ candidate, time: this.time(() => run(candidate, other ?? result), runs) }))
          .filter(({ time }) => Number.isFinite(time))
          .sort((a, b) => a.time - b.time)
          .map(({ candidate }) => candidate);
      const finalists = timed(candidates, FIRST_RUNS).slice(0, FINALISTS);
      const [best] = timed(finalists, RUNS);
      if (best === undefined) return first;
      this.store(product, hex(best));
      return best;
    } finally {
      if (other !== null) this.driver.free(other);
    }
  }

  /** The index of the fastest of several variants with the same result, by running each; 0 if nothing may run. */
  fastestVariant(name: string, variants: (() => void)[]): number {
    const stored = Number(this.choices.get(name));
    if (variants[stored] !== undefined) return stored;
    if (!this.mayRun()) return 0;
    const times = variants.map((variant) => this.time(variant, RUNS));
    const best = Math.max(0, times.indexOf(Math.min(...times)));
    // A variant that ran out of memory this time may be the fastest next time.
    if (times.every(Number.isFinite)) this.store(name, String(best));
    return best;
  }

  /** Writes new choices to the cache, beside those that other processes on this machine have stored in the meantime. */
  save(): void {
    if (this.unsaved.size === 0) return;
    const all = new Map([...storedChoices(this.path), ...this.unsaved]);
    for (const [name, choice] of all) this.choices.set(name, choice);
    writeCache(this.path, Buffer.from(JSON.stringify([...all])));
    this.unsaved.clear();
    unsaved.delete(this);
    this.savedAt = performance.now();
  }

  private store(name: string, choice: string): void {
    unsaved.add(this);
    this.choices.set(name, choice);
    this.unsaved.set(name, choice);
    if (performance.now() - this.savedAt > WRITE_EVERY) this.save();
  }

  /** Milliseconds of some runs; infinity if the candidate fails. */
  private time(run: () => void, runs: number): number {
    const [start, end] = [this.driver.event(true), this.driver.event(true)];
    try {
      run();
      this.driver.record(start);
      for (let i = 0; i < runs; i++) run();
      this.driver.record(end);
      this.driver.synchronize();
      return this.driver.elapsed(start, end);
    } catch {
      return Number.POSITIVE_INFINITY;
    } finally {
      this.driver.destroyEvent(start);
      this.driver.destroyEvent(end);
    }
  }
}

function hex(algorithm: Uint8Array): string {
  return Buffer.from(algorithm).toString('hex');
}

/** The choices in a cache file; empty if it is damaged or another kind of file. */
function storedChoices(path: string | null): Map<string, string> {
  try {
    const entries: unknown = JSON.parse(readCache(path)?.toString('utf8') ?? '[]');
    const isPair = (entry: unknown): entry is [string, string] =>
      Array.isArray(entry) && entry.length === 2 && entry.every((part) => typeof part === 'string');
    return new Map(Array.isArray(entries) ? entries.filter(isPair) : []);
  } catch {
    return new Map();
  }
}
