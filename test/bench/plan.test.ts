/** Planning takes no more CPU time than the documentation promises. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, it } from 'vitest';
import { planCommand } from '../../src/commands/plan.js';
import { timed } from '../support/cpu.js';

const folder = mkdtempSync(join(tmpdir(), 'mod-plan-'));
afterAll(() => rmSync(folder, { recursive: true }));

/** Factor on the promised limits for slow machines. */
const CI_MARGIN = 5;

async function planned(path: string): Promise<{ runs: number; seconds: number }> {
  const printed: string[] = [];
  const options = { json: true, results: 'results' };
  const { seconds } = await timed(() =>
    planCommand(path, options, (part) => printed.push(part), undefined, []),
  );
  return { runs: JSON.parse(printed.join()).length, seconds };
}

it.each(['6e18', '2e19', '1e20'])('plans configs/%s.yaml within a second', async (name) => {
  const { runs, seconds } = await planned(`configs/${name}.yaml`);
  console.log(`${name}: ${runs} runs planned in ${seconds.toFixed(3)} s`);
  expect(seconds).toBeLessThan(1 * CI_MARGIN);
});

it('plans a thousand runs within two seconds', async () => {
  const path = join(folder, 'thousand.yaml');
  const text = readFileSync('configs/6e18.yaml', 'utf8')
    .replace(/grids:.*/s, '')
    .replace('capacities: [0.125]', 'capacities: [0.0625, 0.125, 0.25, 0.5, 0.75, 0.95]')
    .replace('routing_frequencies: [2]', 'routing_frequencies: [1, 2]');
  writeFileSync(path, `${text}routers: [learned, random]\nseeds: [0, 1, 2, 3, 4]\n`);
  const { runs, seconds } = await planned(path);
  console.log(`${runs} runs planned in ${seconds.toFixed(3)} s`);
  expect(runs).toBeGreaterThan(1000);
  expect(seconds).toBeLessThan(2 * CI_MARGIN);
});
