/** The sweep files of the paper's budgets: their runs, and that every budget is met. */
import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { type PlanRow, planCommand } from '../../src/commands/plan.js';

async function planOf(path: string): Promise<PlanRow[]> {
  const printed: string[] = [];
  await planCommand(path, { json: true, results: 'results' }, (part) => printed.push(part), undefined, []);
  return JSON.parse(printed.join());
}

describe.each([
  ['6e18', 47],
  ['2e19', 32],
  ['1e20', 24],
])('configs/%s.yaml', (name, runs) => {
  it('expands without its data to runs that meet the budget to 1%', async () => {
    const rows = await planOf(`configs/${name}.yaml`);
    expect(rows).toHaveLength(runs);
    for (const { status, budget_error, flop_budget, epochs } of rows) {
      expect(status).toBe('pending');
      expect(Math.abs(budget_error)).toBeLessThan(0.01);
      expect(flop_budget).toBe(Number(name));
      expect(epochs).toBeNull();
    }
  });

  it('has both curves at every size, and capacities, every block and the control beside them', async () => {
    const rows = await planOf(`configs/${name}.yaml`);
    const N0 = Math.sqrt(Number(name) / 120);
    const baseline = rows.filter(({ variant }) => variant === 'baseline');
    const paper = rows.filter(
      ({ variant, capacity, routing_frequency }) =>
        variant === 'mod' && capacity === 0.125 && routing_frequency === 2,
    );
    expect(baseline.length).toBeGreaterThanOrEqual(7);
    expect(paper.length).toBeGreaterThanOrEqual(baseline.length + 2);
    for (const { params_total } of baseline) {
      expect(params_total).toBeGreaterThan(N0 / 8);
      expect(params_total).toBeLessThanOrEqual(2 * N0);
    }
    expect(Math.max(...paper.map(({ params_total }) => params_total))).toBeGreaterThan(3 * N0);
    const capacities = new Set(rows.map(({ capacity }) => capacity));
    expect(capacities).toEqual(new Set([null, 0.0625, 0.125, 0.25, 0.5, 0.75, 0.95]));
    expect(rows.some(({ routing_frequency }) => routing_frequency === 1)).toBe(true);
    expect(rows.some(({ variant }) => variant === 'random')).toBe(true);
  });

  it('states the number of its runs in its comments', () => {
    expect(readFileSync(`configs/${name}.yaml`, 'utf8')).toContain(`= ${runs} runs of ${name} FLOPs`);
  });
});
