/** The tables of parameters that a sweep and a run begin with. */
import { count, rate, table } from '../format.js';
import type { Transformer } from '../model/transformer.js';
import type { PlannedRun } from '../plan/run.js';

/** One line a run that is about to be trained. */
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

/** One line a tensor of a model, those of equal blocks together, and their sum. */
export function tensorTable(model: Transformer): string {
  const groups = new Map<string, { name: string; shape: string; tensors: number; size: number }>();
  for (const { name, value } of model.parameters) {
    const group = name.replace(/^blocks\.\d+\./, 'blocks.*.');
    const known = groups.get(group) ?? { name: group, shape: `[${value.shape}]`, tensors: 0, size: 0 };
    groups.set(group, { ...known, tensors: known.tensors + 1, size: known.size + value.size });
  }
  const rows = [...groups.values()].map(({ name, shape, tensors, size }) => [
    name,
    shape,
    String(tensors),
    count(size),
  ]);
  const total = model.parameters.reduce((sum, { value }) => sum + value.size, 0);
  return table(
    ['tensor', 'shape', 'tensors', 'params'],
    [...rows, ['total', '', String(model.parameters.length), count(total)]],
  );
}
