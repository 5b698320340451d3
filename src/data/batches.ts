/** Batches of sequences from a token source: training windows in a seeded order, held-out windows in file order. */
import { InputError } from '../errors.js';
import { permutation } from './permutation.js';
import type { TokenSource } from './token-source.js';

/** Sequences of T tokens; `targets` are the tokens shifted by one. Both are [sequences · T], row-major. */
export interface Batch {
  sequences: number;
  inputs: Int32Array;
  targets: Int32Array;
}

/**
 * The training data as an endless stream of sequences: windows of T + 1 tokens with stride T, each window once per epoch,
 * in a new order each epoch. The next sequences depend only on the seed and the cursor, not on the backend or on the
 * sizes of earlier batches.
 */
export class TrainingBatches {
  /** Windows in one epoch. */
  readonly windows: number;
  /** Sequences drawn so far: the only state to save and restore. */
  private drawn = 0;
  private epoch = -1;
  private order: (index: number) => number = (index) => index;

  /** @throws InputError if the source has fewer tokens than one window */
  constructor(
    private readonly source: TokenSource,
    private readonly sequenceLength: number,
    private readonly seed: number,
  ) {
    this.windows = countWindows(source, sequenceLength);
  }

  get cursor(): number {
    return this.drawn;
  }

  set cursor(sequences: number) {
    if (!Number.isSafeInteger(sequences) || sequences < 0) throw new RangeError(`cursor ${sequences}`);
    this.drawn = sequences;
  }

  /** The next sequences; the cursor moves past them after they have been read. */
  next(sequences: number): Batch {
    const starts = Array.from({ length: sequences }, (_, i) => this.windowAt(this.drawn + i));
    const batch = readWindows(this.source, this.sequenceLength, starts);
    this.drawn += sequences;
    return batch;
  }

  private windowAt(drawn: number): number {
    const epoch = Math.floor(drawn / this.windows);
    if (epoch !== this.epoch) {
      this.order = permutation(this.windows, this.seed, 'batches', epoch);
      this.epoch = epoch;
    }
    return this.order(drawn % this.windows);
  }
}

/** The held-out data as windows of T tokens with stride T, in the order of the files. */
export class HeldoutWindows {
  /** floor((N - 1) / T): the last target of a window is the token after it. */
  readonly count: number;

  /** @throws InputError if the source has fewer tokens than one window */
  constructor(
    private readonly source: TokenSource,
    private readonly sequenceLength: number,
  ) {
    this.count = countWindows(source, sequenceLength);
  }

  /** Windows first .. first + n - 1, which must exist. */
  read(first: number, n: number): Batch {
    const windows = Array.from({ length: n }, (_, i) => first + i);
    return readWindows(this.source, this.sequenceLength, windows);
  }
}

/** Windows of a source. @throws InputError if it has fewer tokens than one */
export function countWindows(source: TokenSource, sequenceLength: number): number {
  const windows = Math.floor((source.tokens - 1) / sequenceLength);
  if (windows >= 1) return windows;
  const [first, ...more] = source.files;
  const where = more.length === 0 ? first : `${first} and ${more.length} more`;
  throw new InputError(
    `${where}: ${source.tokens} tokens; one sequence of ${sequenceLength} and its last target need ${sequenceLength + 1}: use more text or decrease sequence_length`,
  );
}

function readWindows(source: TokenSource, sequenceLength: number, windows: number[]): Batch {
  const sequences = windows.length;
  const inputs = new Int32Array(sequences * sequenceLength);
  const targets = new Int32Array(sequences * sequenceLength);
  const window = new Int32Array(sequenceLength + 1);
  windows.forEach((index, row) => {
    source.read(index * sequenceLength, window);
    inputs.set(window.subarray(0, sequenceLength), row * sequenceLength);
    targets.set(window.subarray(1), row * sequenceLength);
  });
  return { sequences, inputs, targets };
}
