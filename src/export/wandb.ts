/** A run as files for Weights & Biases: config, history with one line per logged step, summary. */
import { jsonText } from '../files/numbers.js';
import type { LoadedRun } from '../results/load.js';
import { type CurveStep, evaluationValues } from './curves.js';

/** The names of a run's files. */
export const WANDB_FILES = ['run.json', 'wandb-history.jsonl', 'wandb-summary.json'] as const;

export interface WandbFiles extends Record<(typeof WANDB_FILES)[number], string> {
  /** The arguments of `wandb.init`: name, group, job type, tags, config. */
  'run.json': string;
  /** Lines of `_step`, `_runtime`, `_timestamp` and the values. */
  'wandb-history.jsonl': string;
  'wandb-summary.json': string;
}

/** The text of each file. Values that JSON cannot represent are left out. */
export function wandbFiles(run: LoadedRun, curves: readonly CurveStep[]): WandbFiles {
  const { sweep, row, spec, evaluations } = run;
  const init = {
    name: row.run_id,
    group: sweep,
    job_type: row.variant,
    tags: [row.status],
    config: { ...spec },
  };
  const history = curves.map(({ step, wallTime, runtime, values }) =>
    jsonText({ _step: step, _runtime: runtime, _timestamp: wallTime, ...values }),
  );
  const summary = {
    ...Object.fromEntries(Object.entries(row).filter(([, value]) => value !== null)),
    ...evaluationValues(evaluations),
    _step: curves.at(-1)?.step ?? 0,
    _runtime: curves.at(-1)?.runtime ?? 0,
  };
  return {
    'run.json': `${jsonText(init, 2)}\n`,
    'wandb-history.jsonl': history.map((line) => `${line}\n`).join(''),
    'wandb-summary.json': `${jsonText(summary, 2)}\n`,
  };
}
