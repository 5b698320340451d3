/** A run's steps.csv as a curve that is read, not its scatter. */
import type { StepRow } from '../results/columns.js';
import { mean } from '../statistics.js';
import type { DoneRun } from './study.js';

/** Points that a curve is drawn with: more are not seen. */
const POINTS = 48;

export interface CurvePoint {
  /** Share of the run's training. */
  share: number;
  flops: number;
  y: number;
}

/** Means over equal parts of a run's training, each at its part's end; none where the value is not known. */
export function smoothed({ steps, row }: DoneRun, value: (step: StepRow) => number | null): CurvePoint[] {
  const known = steps().flatMap((step) => {
    const y = value(step);
    return y === null || !Number.isFinite(y) ? [] : [{ share: step.step / row.steps, y }];
  });
  const count = Math.min(POINTS, known.length);
  const bound = (i: number) => Math.round((i * known.length) / count);
  const parts = Array.from({ length: count }, (_, i) => known.slice(bound(i), bound(i + 1)));
  return parts.map((part) => {
    const share = part.at(-1)?.share as number;
    return { share, flops: share * row.train_flops, y: mean(part.map(({ y }) => y)) };
  });
}
