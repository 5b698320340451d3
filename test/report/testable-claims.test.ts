/** The claims that the runs of a sweep file can decide, and what is missing for the others. */
import { expect, it } from 'vitest';
import { testableClaims } from '../../src/report/testable-claims.js';
import { plannedRuns } from './synthetic.js';

const SIZES = `model_sizes: [${[64, 96, 128, 192, 256].map((d) => `{d_model: ${d}, n_layers: 4}`)}]\n`;
const BUDGET = 'flop_budgets: [1e15]\n';
const MAIN = 'The optimal MoD transformer has a lower loss than the isoFLOP-optimal baseline.';
const RANDOM = 'Random routing is much worse than learned routing, and than the baseline.';

const missing = (file: string) =>
  new Map(testableClaims(plannedRuns(file)).map(({ claim, missing: what }) => [claim, what]));

it('five sizes with three seeds decide the main claim, and random routing if it is there', () => {
  const without = missing(`${BUDGET}${SIZES}capacities: [0.125]\nseeds: [0, 1, 2]\n`);
  expect(without.get(MAIN)).toBeNull();
  expect(without.get(RANDOM)).toBe('Needs dense, MoD and random-control runs at one budget.');
  const both = missing(
    `${BUDGET}${SIZES}capacities: [0.125]\nrouters: [learned, random]\nseeds: [0, 1, 2]\n`,
  );
  expect(both.get(MAIN)).toBeNull();
  expect(both.get(RANDOM)).toBeNull();
});

it('three sizes with one seed decide no difference of losses', () => {
  const few = missing(
    `${BUDGET}model_sizes: [{d_model: 64, n_layers: 4}, {d_model: 96, n_layers: 4}, {d_model: 128, n_layers: 4}]\ncapacities: [0.125]\n`,
  );
  expect(few.get(MAIN)).toMatch(/^Needs /);
});

it('decides what more settings are compared for', () => {
  const settings = missing(
    `${BUDGET}${SIZES}capacities: [0.0625, 0.125, 0.5]\nrouting_frequencies: [1, 2]\nexpert_variants: [moe, mode-staged, mode-integrated, moe-reduced]\nseeds: [0, 1, 2]\n`,
  );
  const open = [...settings].filter(([, what]) => what !== null).map(([claim]) => claim);
  for (const decided of [
    /every other block/,
    /12\.5% is the best/,
    /Mixture-of-Depths-and-Experts/,
    /Integrated MoDE/,
  ])
    expect(open.filter((claim) => decided.test(claim))).toEqual([]);
});

it('has nothing to say of no runs', () => {
  expect(testableClaims([])).toEqual([]);
});
