/** The curves of a run as other tools want them: a name, a step, a value, a time. */

import type { EvalRow, StepRow } from '../results/columns.js';
import type { LoadedRun } from '../results/load.js';

/** What is known at one step, by name; names as the tools group them. */
export interface CurveStep {
  step: number;
  /** Seconds since 1970. */
  wallTime: number;
  /** Seconds of training until here. */
  runtime: number;
  values: Record<string, number>;
}

const NAMES = {
  loss: 'train/loss',
  heldout_loss: 'heldout/loss',
  learning_rate: 'train/learning_rate',
  grad_norm: 'train/grad_norm',
  predictor_accuracy: 'train/predictor_accuracy',
  step_ms: 'train/step_ms',
  tokens: 'train/tokens',
  expert_dropped: 'train/expert_dropped',
  expert_no_op: 'train/expert_no_op',
} as const satisfies Partial<Record<keyof StepRow, string>>;

/** What of an evaluation is a number of the run's end. */
const EVALUATED = [
  'loss',
  'flops_per_pass',
  'participation',
  'predictor_accuracy',
] as const satisfies readonly (keyof EvalRow)[];

/**
 * Every line of steps.csv, its time counted up from the run's start by step times, and at the last step the evaluations:
 * `eval/topk/loss`, `eval/predictor/loss`. Values that are not known or not finite are left out.
 */
export function curvesOf({ row, evaluations, steps }: LoadedRun): CurveStep[] {
  const started = row.started_at === null ? 0 : Date.parse(row.started_at) / 1000;
  let runtime = 0;
  let before = 0;
  const curves = steps().map((line): CurveStep => {
    runtime += ((line.step - before) * line.step_ms) / 1000;
    before = line.step;
    const named = Object.entries(NAMES).map(
      ([column, name]) => [name, line[column as keyof typeof NAMES] ?? null] as const,
    );
    return { step: line.step, wallTime: started + runtime, runtime, values: known(named) };
  });
  const last = curves.at(-1);
  if (last !== undefined && evaluations.length > 0) Object.assign(last.values, evaluationValues(evaluations));
  return curves;
}

/** `eval/<routing>/<name>` of every evaluation. */
export function evaluationValues(evaluations: readonly EvalRow[]): Record<string, number> {
  return known(
    evaluations.flatMap((row) =>
      EVALUATED.map((name) => [`eval/${row.routing}/${name}`, row[name]] as const),
    ),
  );
}

function known(entries: readonly (readonly [string, number | null])[]): Record<string, number> {
  return Object.fromEntries(
    entries.flatMap(([name, value]) => (value !== null && Number.isFinite(value) ? [[name, value]] : [])),
  );
}
