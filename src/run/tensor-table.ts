/** The table of a model's tensors at the start of a run's log. */
import { count, table } from '../format.js';
import type { Transformer } from '../model/transformer.js';

/** One row per tensor, with equal tensors of different blocks grouped, and the total. */
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
