/** Which of several algorithms for a product, or ways to make it, is the fastest here: measured once, remembered on disk. */
import { createHash } from 'node:crypto';
import { join } from 'node:path';
import { cacheFolder, readCache, writeCache } from './compiler.js';
import type { Address, Driver } from './driver.js';

/** Timed runs, after one that is not: of all candidates, then of the few fastest. */
const FIRST_RUNS = 1;
const RUNS = 3;
const FINALISTS = 4;
/** A larger result is not worth the memory that trying takes. */
const LARGEST_RESULT = 2 ** 30;

export class ProductTuning {
  private readonly path: string;
  /** By product: the algorithm that won, in hexadecimal, or the number of the way. */
  private readonly known: Map<string, string>;

  /** @param library names cuBLASLt's version: another one has other algorithms */
  constructor(
    private readonly driver: Driver,
    library: string,
    /** Whether work runs now: while it is only recorded nothing can be measured. */
    private readonly mayRun: () => boolean,
    folder = cacheFolder(),
  ) {
    const digest = createHash('sha256')
      .update(`${library}\0${driver.deviceName}\0${driver.driverVersion}`)
      .digest('hex');
    this.path = join(folder, `products-${digest.slice(0, 32)}.json`);
    this.known = remembered(this.path);
  }

  /**
   * The fastest of the candidates for a product, by running each into memory of the result's size, which is the driver's
   * again at once: a first step needs it, training does not. One that is remembered is taken where it is still among them.
   */
  fastest(
    product: string,
    candidates: Uint8Array[],
    resultBytes: number,
    run: (algorithm: Uint8Array, result: Address) => void,
  ): Uint8Array {
    const [first] = candidates as [Uint8Array];
    if (candidates.length === 1 || resultBytes > LARGEST_RESULT || !this.mayRun()) return first;
    const name = this.known.get(product);
    const before = candidates.find((candidate) => hex(candidate) === name);
    if (before !== undefined) return before;
    const result = this.driver.allocate(resultBytes);
    if (result === null) return first;
    try {
      const timed = (some: readonly Uint8Array[], runs: number) =>
        some
          .map((candidate) => ({ candidate, time: this.time(() => run(candidate, result), runs) }))
          .filter(({ time }) => Number.isFinite(time))
          .sort((a, b) => a.time - b.time)
          .map(({ candidate }) => candidate);
      const finalists = timed(candidates, FIRST_RUNS).slice(0, FINALISTS);
      const [best] = timed(finalists, RUNS);
      if (best === undefined) return first;
      this.remember(product, hex(best));
      return best;
    } finally {
      this.driver.free(result);
    }
  }

  /** The number of the fastest of several ways to the same result, by running each; the first where nothing may run. */
  quickest(name: string, ways: (() => void)[]): number {
    const before = Number(this.known.get(name));
    if (ways[before] !== undefined) return before;
    if (!this.mayRun()) return 0;
    const times = ways.map((way) => this.time(way, RUNS));
    const best = Math.max(0, times.indexOf(Math.min(...times)));
    // One that found no memory this time may be the fastest the next.
    if (times.every(Number.isFinite)) this.remember(name, String(best));
    return best;
  }

  private remember(name: string, choice: string): void {
    // Processes on other GPUs of the machine measure at the same time.
    for (const [other, theirs] of remembered(this.path)) this.known.set(other, theirs);
    this.known.set(name, choice);
    writeCache(this.path, Buffer.from(JSON.stringify([...this.known])));
  }

  /** Milliseconds of some runs; infinitely many where the candidate does not run after all. */
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

/** What a file remembers; nothing where it is broken or something else. */
function remembered(path: string): Map<string, string> {
  try {
    const entries: unknown = JSON.parse(readCache(path)?.toString('utf8') ?? '[]');
    const isPair = (entry: unknown): entry is [string, string] =>
      Array.isArray(entry) && entry.length === 2 && entry.every((part) => typeof part === 'string');
    return new Map(Array.isArray(entries) ? entries.filter(isPair) : []);
  } catch {
    return new Map();
  }
}
