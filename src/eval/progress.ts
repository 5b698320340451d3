/** An evaluation's own checkpoint: how far each routing mode has come, in one small file that is gone at the end. */
import { rmSync } from 'node:fs';
import { configHash } from '../files/canonical.js';
import { readJson, writeJson } from '../files/json.js';
import type { RoutingMode } from '../model/config.js';
import type { EvaluationState } from './heldout.js';

/** Milliseconds between two writes, but at the end of a mode. */
const INTERVAL = 30_000;

interface Saved {
  key: string;
  modes: Partial<Record<RoutingMode, EvaluationState>>;
}

export class EvaluationProgress {
  private readonly key: string;
  private readonly modes: Saved['modes'];
  private written: number;

  /**
   * @param subject what is evaluated on what: a file that was left by anything else is not gone on from
   * @param now milliseconds; injected in tests
   */
  constructor(
    private readonly path: string,
    subject: object,
    private readonly now: () => number = Date.now,
  ) {
    this.key = configHash(subject);
    this.modes = this.load();
    this.written = now();
  }

  /** Where an earlier evaluation was broken off in this mode; undefined for the start. */
  state(mode: RoutingMode): EvaluationState | undefined {
    return this.modes[mode];
  }

  update(mode: RoutingMode, state: EvaluationState, isLast: boolean): void {
    this.modes[mode] = state;
    if (!isLast && Math.abs(this.now() - this.written) < INTERVAL) return; // backwards: the clock was set
    writeJson(this.path, { key: this.key, modes: this.modes } satisfies Saved);
    this.written = this.now();
  }

  /** Forgets everything: the rows are written. */
  remove(): void {
    rmSync(this.path, { force: true });
  }

  private load(): Saved['modes'] {
    try {
      const saved = readJson(this.path) as Saved | null;
      return saved?.key === this.key ? saved.modes : {};
    } catch {
      return {}; // a file that cannot be read is worth no more than none
    }
  }
}
