/** The curves of a run for other tools: name, step, value, time. */
import type { EvalRow, StepRow } from '../results/columns.js';
import type { LoadedRun } from '../results/load.js';

/** The values at one step, by name. The tools group the names by prefix. */
export interface CurveStep {
  step: number;
  /** Seconds since 1970. */
  wallTime: number;
  /** Training time up to this step, in seconds. */
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

/** Columns of an evaluation that are exported, at the last step. */
const EVALUATED = [
  'loss',
  'flops_per_pass',
  'participation',
  'predictor_accuracy',
] as const satisfies readonly (keyof EvalRow)[];

/**
 * One entry per row of steps.csv, timed by the run's start plus the step times so far. The last entry also has the
 * evaluations: `eval/topk/loss`, `eval/predictor/loss`. Unknown and non-finite values are left out.
 */
export function curvesOf({ row, evaluations, steps }: LoadedRun): CurveStep[] {
  const startedAt = row.started_at === null ? 0 : Date.parse(row.started_at) / 1000;
  let runtime = 0;
  let previousStep = 0;
  const curves = steps().map((line): CurveStep => {
    runtime += ((line.step - previousStep) * line.step_ms) / 1000;
    previousStep = line.step;
    const named = Object.entries(NAMES).map(
      ([column, name]) => [name, line[column as keyof typeof NAMES] ?? null] as const,
    );
    return { step: line.step, wallTime: startedAt + runtime, runtime, values: finiteValues(named) };
  });
  const last = curves.at(-1);
  if (last !== undefined && evaluations.length > 0) Object.assign(last.values, evaluationValues(evaluations));
  return curves;
}

/** `eval/<routing>/<name>` of every evaluation. */
export function evaluationValues(evaluations: readonly EvalRow[]): Record<string, number> {
  return finiteValues(
    evaluations.flatMap((row) =>
      EVALUATED.map((name) => [`eval/${row.routing}/${name}`, row[name]] as const),
    ),
  );
}

function finiteValues(entries: readonly (readonly [string, number | null])[]): Record<string, number> {
  return Object.fromEntries(
    entries.flatMap(([name, value]) => (value !== null && Number.isFinite(value) ? [[name, value]] : [])),
  );
}
