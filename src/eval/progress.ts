/** The checkpoint of an evaluation: its state in each routing mode, in one small file that is removed at the end. */
import { rmSync } from 'node:fs';
import { configHash } from '../files/canonical.js';
import { readJson, writeJson } from '../files/json.js';
import type { RoutingMode } from '../model/config.js';
import type { EvaluationState } from './heldout.js';

/** Milliseconds between two writes; the end of a mode is always written. */
const WRITE_INTERVAL_MS = 30_000;

/** Increased when EvaluationState changes: a file of another version is ignored. */
const STATE_FORMAT = 2;

/** The content of the file. */
interface Saved {
  /** Hash of the subject. */
  key: string;
  modes: Partial<Record<RoutingMode, EvaluationState>>;
}

export class EvaluationProgress {
  private readonly key: string;
  private readonly modes: Saved['modes'];
  private written: number;

  /**
   * @param subject model, data and backend; a file of another subject is ignored
   * @param now milliseconds; injected in tests
   */
  constructor(
    private readonly path: string,
    subject: object,
    private readonly now: () => number = Date.now,
  ) {
    this.key = configHash({ format: STATE_FORMAT, subject });
    this.modes = this.load();
    this.written = now();
  }

  /** The state of an interrupted evaluation in this mode; undefined if there is none. */
  state(mode: RoutingMode): EvaluationState | undefined {
    return this.modes[mode];
  }

  /** Sets the state of a mode and writes the file if it is due; `isLast`: the mode is finished. */
  update(mode: RoutingMode, state: EvaluationState, isLast: boolean): void {
    this.modes[mode] = state;
    if (!isLast && Math.abs(this.now() - this.written) < WRITE_INTERVAL_MS) return; // abs: the clock may have been set back
    writeJson(this.path, { key: this.key, modes: this.modes } satisfies Saved);
    this.written = this.now();
  }

  /** Removes the file, once the rows are written. */
  remove(): void {
    rmSync(this.path, { force: true });
  }

  private load(): Saved['modes'] {
    try {
      const saved = readJson(this.path) as Saved | null;
      return saved?.key === this.key ? saved.modes : {};
    } catch {
      return {}; // an unreadable file counts as missing
    }
  }
}
