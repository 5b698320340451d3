/** `mod sweep --slurm` on a real Slurm with two nodes: tasks that exceed their limit, crash, lose their node or controller. */
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { checkpointSteps } from '../../src/checkpoint/folder.js';
import { gitCommit } from '../../src/results/provenance.js';
import { readManifest, runFiles } from '../../src/results/run-folder.js';
import { mod } from '../support/mod.js';
import { SlurmCluster, slurmMissing } from '../support/slurm.js';
import { makeTinySweep, masked, runRows, TINY_SWEEP, type TinySweep } from '../support/tiny-sweep.js';
import { waitUntil } from '../support/wait.js';

const MINUTE = 60_000;
/** Of configs/quick.yaml: every variant, two sizes. */
const QUICK_RUNS = ['baseline', 'mod-c0.125-f2', 'random-c0.125-f2']
  .map((setting) => `1.1e11-${setting}-d64l4-s0`)
  .concat('1.1e11-mod-c0.125-f2-d96l4-s0');
const learnedOnly = (budget: string) =>
  TINY_SWEEP.replace('3e8', budget).replace('[learned, random]', '[learned]');
/**
 * Two runs. Alone on this machine the routed one trains for about `LONG_SECONDS`: longer than the half minute that a task with
 * a limit of one minute trains, and not so long that it needs many of them.
 */
let longSweepText = '';
let longRun = '';
const LONG_SECONDS = 45;

/** Chooses the budget by the speed of this machine: times of a fixed one differ threefold. */
async function setLongSweep(): Promise<void> {
  const [sample, run] = [makeTinySweep(learnedOnly('4e9')), '4e9-mod-c0.25-f2-d16l2-s0'];
  made.push(sample.folder);
  const { code } = await mod('sweep', sample.config, '--results', sample.results, '--only', run, '--quiet');
  expect(code).toBe(0);
  const [row] = runRows(sample).filter(({ run_id }) => run_id === run) as [Record<string, number>];
  const { train_flops: flops = 0, steps = 0, step_ms: stepMs = 0 } = row;
  const budget = `${Math.round((LONG_SECONDS * flops) / ((steps * stepMs) / 1000) / 1e9)}e9`;
  longSweepText = learnedOnly(budget);
  longRun = `${budget}-mod-c0.25-f2-d16l2-s0`;
}

type Results = Pick<TinySweep, 'results'>;
const made: string[] = [];
/** In a folder whose name contains special characters of the shell and of Slurm. */
function longSweep(): TinySweep {
  const sweep = makeTinySweep(longSweepText, "mod 50% $o'n-");
  made.push(sweep.folder);
  return sweep;
}

const submit = ({ config, results }: TinySweep, ...flags: string[]) =>
  mod('sweep', config, '--results', results, '--slurm', ...flags);

/** The array and the report that were submitted. */
function jobsOf(stdout: string): { array: string; report: string } {
  const [, array, report] = /^job (\d+): .*; job (\d+): the report/.exec(stdout) ?? [];
  expect(array, stdout).toBeDefined();
  return { array: array as string, report: report as string };
}

interface Shown {
  run_id: string;
  status: string;
  task: { job: string; state: string; node: string | null; reason: string | null } | null;
}

async function status({ results }: Results, name = 'tiny'): Promise<Shown[]> {
  const { stdout } = await mod('status', join(results, name), '--json');
  return (JSON.parse(stdout) as { runs: Shown[] }).runs;
}

/** The logs of all tasks of an array. */
function logs({ results }: Results, name = 'tiny'): string {
  const folder = join(results, name, 'slurm');
  const names = readdirSync(folder).filter((file) => file.endsWith('.log'));
  return names.map((file) => readFileSync(join(folder, file), 'utf8')).join('\n');
}

/** Waits until a run trains, for the nth time if `attempt` is given; returns the id of its process. */
function trainer({ results }: Results, runId: string, name = 'tiny', attempt?: number): Promise<number> {
  const folder = join(results, name, runId);
  return waitUntil(
    `${runId} trains`,
    () => {
      const attempts = readManifest(folder)?.attempts.length;
      if (attempts === undefined || (attempt ?? attempts) !== attempts) return null;
      const holder = existsSync(runFiles(folder).steps) && readFileSync(runFiles(folder).lock, 'utf8');
      return holder ? (JSON.parse(holder) as { pid: number }).pid : null;
    },
    60,
  );
}

describe.skipIf(slurmMissing !== null)('a sweep on Slurm', () => {
  let cluster: SlurmCluster;
  /** The same sweep, trained without Slurm. */
  let local: TinySweep;

  beforeAll(async () => {
    cluster = new SlurmCluster();
    await cluster.start();
    await setLongSweep();
    local = longSweep();
    expect((await mod('sweep', local.config, '--results', local.results, '--quiet')).code).toBe(0);
  }, 10 * MINUTE);
  afterAll(async () => {
    await cluster.stop();
    for (const folder of made) rmSync(folder, { recursive: true });
  });

  it(
    'gives the rows of a local one after a crash of the controller and a task; a task over its limit resumes',
    async () => {
      const limited = longSweep();
      const only = await submit(limited, '--only', longRun, '--sbatch', '--time=1');
      expect(only).toMatchObject({ code: 0, stderr: '' });

      const results = mkdtempSync(join(tmpdir(), 'mod-slurm-quick-'));
      made.push(results);
      const quick = { config: 'configs/quick.yaml', results, folder: results };
      // The backend of the local sweep that it is compared with; four of the nine runs are enough here.
      const wasm = ['--backend', 'wasm', '--only', ...QUICK_RUNS];
      const first = await submit(quick, '--concurrency', '2', ...wasm);
      expect(first).toMatchObject({ code: 0, stderr: '' });
      expect(first.stdout).toMatch(/^job \d+: 4 runs; job \d+: the report after them\n/);
      const running = await waitUntil(
        'two tasks run and two wait',
        async () => {
          const runs = await status(quick, 'quick');
          const [trains, waits] = ['running', 'queued'].map((is) => runs.filter((run) => run.status === is));
          return trains?.length === 2 && waits?.length === 2 ? trains : null;
        },
        60,
      );
      expect(running.map(({ task }) => task?.state)).toEqual(['RUNNING', 'RUNNING']);
      expect((await submit(quick, ...wasm)).stdout).toBe('nothing to submit: 4 queued or running\n');

      await cluster.waitForSavedState();
      await cluster.killController();
      await sleep(2000);
      cluster.startController();

      const [victim] = running as [Shown];
      process.kill(await trainer(quick, victim.run_id, 'quick'), 'SIGKILL');
      const { array } = jobsOf(first.stdout);
      await cluster.waitForEnd(420);
      const after = await status(quick, 'quick');
      expect(after.filter((run) => run.status === 'done')).toHaveLength(3);
      expect(after.find(({ run_id }) => run_id === victim.run_id)).toMatchObject({
        status: 'failed',
        task: { job: victim.task?.job, state: 'FAILED' },
      });
      expect(readFileSync(join(results, 'quick/report/index.html'), 'utf8')).toContain('quick');

      const second = await submit(quick, ...wasm);
      expect(second.stdout).toMatch(/^job \d+: 1 run \(3 done already\); /);
      expect(jobsOf(second.stdout).array).not.toBe(array);
      await cluster.waitForEnd(240);
      expect(masked(quickRows(quick))).toEqual(masked(await localQuick()));
      expect((await submit(quick, ...wasm)).stdout).toBe('nothing to submit: 4 done\n');

      expect(logs(limited)).toMatch(/not done, requeueing\n.* start 2\n/s);
      const row = runRows(local).filter(({ run_id }) => run_id === longRun);
      expect(masked(runRows(limited).filter(({ run_id }) => run_id === longRun))).toEqual(masked(row));
    },
    10 * MINUTE,
  );

  it(
    'resumes on another node when a node dies; a task that survives its slurmd locks out its second copy, and ends',
    async () => {
      const sweep = longSweep();
      expect((await submit(sweep)).code).toBe(0);
      await trainer(sweep, longRun);
      const nodeOf = async () => (await status(sweep)).find(({ run_id }) => run_id === longRun)?.task?.node;
      const lost = (await nodeOf()) as 'n1' | 'n2';
      const other = lost === 'n1' ? 'n2' : 'n1';

      cluster.killNode(lost);
      cluster.run('scontrol', 'update', `nodename=${lost}`, 'state=down', 'reason=killed');
      const pid = await trainer(sweep, longRun, 'tiny', 2);
      expect(await nodeOf()).toBe(other);

      cluster.startNode(lost);
      await cluster.killDaemon(other);
      cluster.run('scontrol', 'update', `nodename=${other}`, 'state=down', 'reason=killed');
      await waitUntil(
        'the second copy is rejected',
        () => logs(sweep).includes(`held by process ${pid} `),
        60,
      );
      expect(process.kill(pid, 0)).toBe(true);
      expect(readManifest(join(sweep.results, 'tiny', longRun))?.attempts).toHaveLength(2);

      // Second copies start and fail on the remaining node until the first ones are done.
      await cluster.waitForEnd(420);
      expect(readManifest(join(sweep.results, 'tiny', longRun))?.attempts).toHaveLength(2);
      const [, end] = await status(sweep);
      expect(end).toMatchObject({
        run_id: longRun,
        status: 'done',
        task: { state: 'COMPLETED', node: lost },
      });
      expect(masked(runRows(sweep))).toEqual(masked(runRows(local)));
      cluster.startNode(other);
    },
    10 * MINUTE,
  );

  it(
    'saves cancelled runs and does not requeue them; rejects queued runs whose config has changed',
    async () => {
      const sweep = longSweep();
      const { array, report } = jobsOf((await submit(sweep, '--sbatch', '--hold')).stdout);
      const held = await status(sweep);
      expect(held.map(({ status: is, task }) => [is, task?.state, task?.reason])).toEqual([
        ['queued', 'PENDING', 'JobHeldUser'],
        ['queued', 'PENDING', 'JobHeldUser'],
      ]);
      writeFileSync(sweep.config, longSweepText.replace('sequences: 4', 'sequences: 5'));
      const changed = await submit(sweep);
      expect(changed.code).toBe(2);
      expect(changed.stderr).toMatch(/has changed since these runs were queued: .*scancel \d+_\d \d+_\d and/);
      cluster.run('scontrol', 'release', array, report);
      await cluster.waitForEnd(150, array);
      expect(logs(sweep)).toContain(`${longRun}: evaluation.sequences: 4 → 5`);
      expect((await status(sweep)).map(({ status: is, task }) => [is, task?.state])).toEqual([
        ['pending', 'FAILED'],
        ['pending', 'FAILED'],
      ]);

      const again = jobsOf((await submit(sweep)).stdout);
      await trainer(sweep, longRun);
      await sleep(500);
      cluster.run('scancel', again.array, again.report);
      await cluster.waitForEnd(240);
      expect(checkpointSteps(runFiles(join(sweep.results, 'tiny', longRun)).checkpoints)).toHaveLength(1);
      expect((await status(sweep)).map(({ status: is, task }) => [is, task?.state])).toEqual([
        ['interrupted', 'CANCELLED'],
        ['interrupted', 'CANCELLED'],
      ]);
      expect(runRows(sweep).map((row) => row.status)).toEqual(['interrupted', 'interrupted']);
    },
    6 * MINUTE,
  );

  it(
    'reports errors of sbatch and a missing controller; status works from files',
    async () => {
      const sweep = longSweep();
      const rejected = await submit(sweep, '--sbatch', '--partition=nowhere');
      expect(rejected).toMatchObject({ code: 2, stdout: '' });
      expect(rejected.stderr).toMatch(/^mod: sbatch rejected the job: .*invalid partition.*--dry-run/i);
      const { array, report } = jobsOf((await submit(sweep, '--sbatch', '--hold')).stdout);
      await cluster.killController();
      const away = await submit(sweep);
      expect(away).toMatchObject({ code: 75, stdout: '' });
      expect(away.stderr).toMatch(/^mod: Slurm's controller does not answer: .*try again later\n$/s);
      const shown = await mod('status', join(sweep.results, 'tiny'));
      expect(shown.code).toBe(0);
      expect(shown.stdout).toContain('From files only, since Slurm is not available');
      cluster.startController();
      await waitUntil('the controller is back', () => cluster.tryRun('squeue', '--noheader') !== null, 60);
      cluster.run('scancel', array, report);
    },
    3 * MINUTE,
  );
});

/** The rows of the runs that are compared, of those of the whole sweep. */
function quickRows(sweep: Results): Record<string, unknown>[] {
  return runRows(sweep, 'quick').filter(({ run_id }) => QUICK_RUNS.includes(run_id as string));
}

/** The rows of quick.yaml trained locally on wasm: from results/ if this commit wrote them, else trained now. */
async function localQuick(): Promise<Record<string, unknown>[]> {
  const commit = gitCommit();
  if (existsSync('results/quick/runs.csv')) {
    const rows = quickRows({ results: 'results' });
    const fits = (row: Record<string, unknown>) =>
      row.status === 'done' && row.git_commit === commit && row.backend === 'wasm';
    if (rows.every(fits)) return rows;
  }
  const results = mkdtempSync(join(tmpdir(), 'mod-local-quick-'));
  made.push(results);
  const options = ['--results', results, '--backend', 'wasm', '--quiet', '--only', ...QUICK_RUNS];
  await mod('sweep', 'configs/quick.yaml', ...options);
  return quickRows({ results });
}
