/** Training processes killed at random times: every run ends equal to one that was not killed. */
import { spawn } from 'node:child_process';
import { existsSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect, inject, it } from 'vitest';
import { checkpointFolder } from '../../src/checkpoint/folder.js';
import { readCsv } from '../../src/files/csv.js';
import { randomStream } from '../../src/random.js';
import { RUN_TABLE, STEP_TABLE } from '../../src/results/columns.js';
import { tensorflowMissing } from '../support/backends.js';
import { mod, startMod } from '../support/mod.js';
import { makeTinySweep, masked, TINY_SWEEP, type TinySweep, trainRunArgs } from '../support/tiny-sweep.js';
import { figure, times } from './scale.js';

/** Two seconds of steps, with checkpoints as often as possible. */
const SWEEP = `${TINY_SWEEP.replace('3e8', '2e9').replace('routers: [learned, random]', 'routers: [learned]')}
checkpoint: {minutes: 0.001, steps: 0, keep: 2}
`;
const RUN = '2e9-mod-c0.25-f2-d16l2-s0';
const PROGRAM = fileURLToPath(new URL('../../bin/mod.js', import.meta.url));

/** Saving and resuming do not depend on the backend; test/run/resume.test.ts resumes on each. */
const BACKENDS = ['wasm', ...(inject('long') && tensorflowMissing === null ? ['tensorflow'] : [])];
/** Longest time to a kill in ms: from before the first step to after the last checkpoint. */
const LATEST = { wasm: 2500, tensorflow: 5000 } as Record<string, number>;

const sweeps: TinySweep[] = [];
function tiny(): TinySweep {
  const sweep = makeTinySweep(SWEEP);
  sweeps.push(sweep);
  return sweep;
}
afterAll(() => {
  for (const { folder } of sweeps) rmSync(folder, { recursive: true });
});

const sweepArgs = ({ config, results }: TinySweep, backend: string) => [
  'sweep',
  config,
  '--results',
  results,
  '--only',
  RUN,
  '--backend',
  backend,
  '--quiet',
];

/** The results that must be equal. */
function outcome({ results }: TinySweep) {
  const folder = join(results, 'tiny', RUN);
  const rows = readCsv<Record<string, unknown>>(join(results, 'tiny', 'runs.csv'), RUN_TABLE);
  const row = rows.find(({ run_id }) => run_id === RUN) as { steps: number };
  return {
    row: masked([row]),
    steps: masked(readCsv(join(folder, 'steps.csv'), STEP_TABLE)),
    weights: readFileSync(join(checkpointFolder(folder, row.steps), 'weights.safetensors')),
  };
}

beforeAll(() => {
  expect(existsSync(PROGRAM)).toBe(true);
});

it.each(BACKENDS)('kill -9 of a training process on %s loses no checkpointed step', async (backend) => {
  const whole = tiny();
  expect((await mod(...sweepArgs(whole, backend))).code).toBe(0);
  const expected = outcome(whole);
  const stream = randomStream(0, 'kills', backend);
  const total = backend === 'wasm' ? times(6, 200) : times(1, 20);
  let [kills, runs, resumed] = [0, 0, 0];
  while (kills < total) {
    const sweep = tiny();
    // Only the plan, no training: a first start killed at once.
    const first = startMod(sweepArgs(sweep, backend));
    while (!existsSync(join(sweep.results, 'tiny', RUN, 'manifest.json'))) await sleep(5);
    first.child.kill('SIGKILL');
    await first.ended;
    kills += 1;
    await sleep(100); // its training process ends too
    for (let i = 0; i < Math.min(times(3, 12), total - kills + 1); i++) {
      const args = [PROGRAM, ...trainRunArgs(sweep, RUN), '--backend', backend];
      const child = spawn(process.execPath, args, { stdio: 'ignore' });
      const ended = new Promise((resolve) => child.on('close', (_, signal) => resolve(signal)));
      const timer = setTimeout(
        () => child.kill('SIGKILL'),
        300 + stream.uniform() * (LATEST[backend] as number),
      );
      const signal = await ended;
      clearTimeout(timer);
      if (signal === null) break; // it finished before the kill
      kills += 1;
    }
    const last = await mod(...sweepArgs(sweep, backend));
    expect(last).toEqual({ code: 0, stdout: '', stderr: '' });
    const { attempts } = JSON.parse(
      readFileSync(join(sweep.results, 'tiny', RUN, 'manifest.json'), 'utf8'),
    ) as {
      attempts: { from_step: number }[];
    };
    resumed += attempts.filter(({ from_step }) => from_step > 0).length;
    expect(outcome(sweep)).toEqual(expected);
    runs += 1;
  }
  expect(resumed).toBeGreaterThan(0);
  figure(
    `kill -9 of live training on ${backend}, runs they hit, starts from a checkpoint, runs that differ`,
    `${kills}, ${runs}, ${resumed}, 0`,
  );
});

it('SIGTERM at random times saves without losing a step', async () => {
  const whole = tiny();
  await mod(...sweepArgs(whole, 'wasm'));
  const expected = outcome(whole);
  const stream = randomStream(1, 'terms');
  let [terms, saved] = [0, 0];
  while (terms < times(2, 30)) {
    const sweep = tiny();
    for (let i = 0; i < times(2, 8); i++) {
      const { child, ended } = startMod(sweepArgs(sweep, 'wasm'));
      const timer = setTimeout(
        () => child.kill(terms % 2 === 0 ? 'SIGTERM' : 'SIGINT'),
        300 + stream.uniform() * 3000,
      );
      const { code } = await ended;
      clearTimeout(timer);
      if (code === 0) break;
      expect([143, 130, null]).toContain(code); // null: before the signal handler was installed
      terms += 1;
      saved += code === null ? 0 : 1;
    }
    expect((await mod(...sweepArgs(sweep, 'wasm'))).code).toBe(0);
    expect(outcome(sweep)).toEqual(expected);
  }
  figure(
    'SIGTERM and SIGINT of live sweeps, exits with 143 or 130, runs that differ',
    `${terms}, ${saved}, 0`,
  );
});

it('of twenty sweeps started at once exactly one trains', async () => {
  for (let round = 0; round < times(1, 3); round++) {
    const sweep = tiny();
    const all = await Promise.all(
      Array.from({ length: 20 }, () =>
        mod(...sweepArgs(sweep, 'wasm').filter((arg) => arg !== '--only' && arg !== RUN)),
      ),
    );
    const codes = all.map(({ code }) => code);
    // A start after the sweep is done also exits with 0. No run is trained twice.
    expect(new Set(codes)).toEqual(new Set([0, 75]));
    for (const { stdout, stderr } of all) expect(stdout + stderr).toBe(''); // --quiet
    const { attempts } = JSON.parse(
      readFileSync(join(sweep.results, 'tiny', RUN, 'manifest.json'), 'utf8'),
    ) as { attempts: unknown[] };
    expect(attempts).toHaveLength(1);
  }
  figure('rounds of twenty sweeps at once, a run trained twice', `${times(1, 3)}, 0`);
});

function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
