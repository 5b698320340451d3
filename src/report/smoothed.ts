/** A run's steps.csv as a smoothed curve. */
import type { StepRow } from '../results/columns.js';
import { CURVE_ROWS, equalParts } from '../results/thin.js';
import { mean } from '../statistics.js';
import type { DoneRun } from './study.js';

export interface CurvePoint {
  /** Share of the run's training. */
  share: number;
  flops: number;
  y: number;
}

/** Means over equal parts of a run's training, each placed at the end of its part; steps without the value are left out. */
export function smoothed({ steps, row }: DoneRun, value: (step: StepRow) => number | null): CurvePoint[] {
  const known = steps().flatMap((step) => {
    const y = value(step);
    return y === null || !Number.isFinite(y) ? [] : [{ share: step.step / row.steps, y }];
  });
  return equalParts(known, CURVE_ROWS).map((part) => {
    const share = part.at(-1)?.share as number;
    return { share, flops: share * row.train_flops, y: mean(part.map(({ y }) => y)) };
  });
}
