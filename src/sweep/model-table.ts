/** The table of models printed at the start of a sweep. */
import { count, rate, table } from '../format.js';
import type { PlannedRun } from '../plan/run.js';

/** One row per run to train. */
export function modelTable(runs: readonly PlannedRun[]): string {
  const head = ['run', 'params', 'non-embedding', 'd_model', 'layers', 'heads', 'd_ff', 'steps', 'tokens'];
  const rows = runs.map(({ run_id, params_total, params_non_embedding, tokens, spec }) => [
    run_id,
    count(params_total),
    count(params_non_embedding),
    String(spec.model.d_model),
    String(spec.model.n_layers),
    String(spec.model.n_heads),
    String(spec.model.d_ff),
    count(spec.steps),
    rate(tokens),
  ]);
  return table(head, rows);
}
