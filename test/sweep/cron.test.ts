/** `mod sweep` under cron: stops on request, reports its end by exit code and on_finish, checks the disk, resumes. */
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import { checkpointSteps } from '../../src/checkpoint/folder.js';
import { readManifest, runFiles } from '../../src/results/run-folder.js';
import { runFolder } from '../../src/results/sweep-folder.js';
import type { SweepSummary } from '../../src/sweep/on-finish.js';
import { checkDisk } from '../../src/sweep/preflight.js';
import { plannedRun } from '../results/planned-run.js';
import { mod, startMod } from '../support/mod.js';
import { makeTinySweep, runRows, TINY_RUNS, TINY_SWEEP, type TinySweep } from '../support/tiny-sweep.js';

const made: TinySweep[] = [];
function tiny(text: string): TinySweep {
  const sweep = makeTinySweep(text);
  made.push(sweep);
  return sweep;
}
afterEach(() => {
  for (const { folder } of made.splice(0)) rmSync(folder, { recursive: true });
});

const args = ({ config, results }: TinySweep, ...flags: string[]) => [
  'sweep',
  config,
  '--results',
  results,
  '--jobs',
  '1',
  ...flags,
];
const ONE_RUN = TINY_SWEEP.replace('[0.25]', '[]');
/** A budget of half a minute, long enough to be stopped. */
const LONG = ONE_RUN.replace('3e8', '3e10');
const LONG_RUN = '3e10-baseline-d16l2-s0';
const folderOf = ({ results }: TinySweep, run: string) => runFolder(join(results, 'tiny'), run);

/** Waits until the run trains for the nth time; returns the id of its process. */
async function trainerOf(sweep: TinySweep, attempt = 1): Promise<number> {
  const folder = folderOf(sweep, LONG_RUN);
  const trains = () =>
    existsSync(runFiles(folder).steps) && readManifest(folder)?.attempts.length === attempt;
  while (!trains()) await sleep(20);
  return (JSON.parse(readFileSync(runFiles(folder).lock, 'utf8')) as { pid: number }).pid;
}

const sleep = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));
const isAlive = (pid: number) => {
  try {
    return process.kill(pid, 0);
  } catch {
    return false;
  }
};

it('a sweep continues after its output is closed', async () => {
  const sweep = tiny(TINY_SWEEP);
  const { child, ended } = startMod(args(sweep));
  child.stdout?.once('data', () => child.stdout?.destroy());
  expect(await ended).toMatchObject({ code: 0, stderr: '' });
  expect(runRows(sweep).map(({ status }) => status)).toEqual(['done', 'done', 'done']);
});

describe('a sweep that is stopped', () => {
  it.each([
    [['SIGTERM'], 143],
    [['SIGHUP', 'SIGHUP'], 129], // of a terminal that is closed: by the kernel, and again by the shell
  ] as const)('by %j saves, exits with %i, and resumes from there', async (signals, code) => {
    const sweep = tiny(LONG);
    for (const from of [0, 1]) {
      const { child, ended } = startMod(args(sweep, '--quiet'));
      await trainerOf(sweep, from + 1);
      await sleep(300);
      for (const signal of signals) child.kill(signal);
      expect(await ended).toEqual({ code, stdout: '', stderr: '' });
      const folder = folderOf(sweep, LONG_RUN);
      expect(readFileSync(runFiles(folder).log, 'utf8')).toContain(
        `interrupted: stopped by ${signals[0]} after step`,
      );
      const saved = checkpointSteps(runFiles(folder).checkpoints);
      expect(saved.length).toBe(from + 1);
      expect(readManifest(folder)?.attempts.map(({ from_step }) => from_step)).toEqual(
        [0, ...saved].slice(0, from + 1),
      );
      expect(runRows(sweep)[0]?.status).toBe('interrupted');
    }
  });

  it('by an upgrade is resumed by the new version, and its row names both', async () => {
    const sweep = tiny(LONG.replace('3e10', '6e9'));
    const run = LONG_RUN.replace('3e10', '6e9');
    const { child, ended } = startMod(args(sweep, '--quiet'));
    const folder = folderOf(sweep, run);
    while (!existsSync(runFiles(folder).steps)) await sleep(20);
    child.kill('SIGTERM');
    await ended;
    const [saved] = checkpointSteps(runFiles(folder).checkpoints);
    // As a version before the one that recorded its number wrote it: its tables had fewer columns, too.
    const manifest = JSON.parse(readFileSync(runFiles(folder).manifest, 'utf8'));
    manifest.attempts = manifest.attempts.map(({ version: _, ...attempt }: { version: string }) => ({
      ...attempt,
      git_commit: 'a'.repeat(40),
    }));
    writeFileSync(runFiles(folder).manifest, JSON.stringify(manifest));
    const tables = join(sweep.results, 'tiny', 'runs.csv');
    const rows = readFileSync(tables, 'utf8').trimEnd().split('\n');
    writeFileSync(tables, rows.map((row) => row.replace(/(,[^,]*){2}$/, '')).join('\n'));

    expect(await mod(...args(sweep, '--quiet'))).toEqual({ code: 0, stdout: '', stderr: '' });
    const [row] = runRows(sweep);
    expect(row).toMatchObject({ status: 'done', parametrization: 'standard' });
    expect(row?.note).toMatch(
      new RegExp(
        `trained by more than one version of mod: unknown version \\(commit a{12}\\) from step 0, \\d+\\.\\d+\\.\\d+ .*from step ${saved}`,
      ),
    );
    expect(readManifest(folder)?.attempts.map(({ from_step }) => from_step)).toEqual([0, saved]);
  });

  it('by a signal to only its training process exits with 75', async () => {
    const sweep = tiny(LONG);
    const { ended } = startMod(args(sweep, '--quiet'));
    process.kill(await trainerOf(sweep), 'SIGTERM');
    expect(await ended).toEqual({ code: 75, stdout: '', stderr: '' });
    expect(checkpointSteps(runFiles(folderOf(sweep, LONG_RUN)).checkpoints)).toHaveLength(1);
  });

  it('twice ends at once, with its training process', async () => {
    const sweep = tiny(LONG);
    const { child, ended } = startMod(args(sweep, '--quiet'));
    const trainer = await trainerOf(sweep);
    child.kill('SIGTERM');
    child.kill('SIGINT');
    const started = performance.now();
    await ended;
    await expect.poll(() => isAlive(trainer), { timeout: 5000 }).toBe(false);
    expect(performance.now() - started).toBeLessThan(5000);
  });

  it('by its own --max-hours saves and exits with 75', async () => {
    const sweep = tiny(LONG);
    const end = await mod(...args(sweep, '--quiet', '--max-hours', '0.001'));
    expect(end).toEqual({ code: 75, stdout: '', stderr: '' });
    expect(checkpointSteps(runFiles(folderOf(sweep, LONG_RUN)).checkpoints)).toHaveLength(1);
  });

  it('with --whole-runs does not start what cannot end, and starts what is unknown', async () => {
    const sweep = tiny(TINY_SWEEP);
    const limited = ['--max-hours', '0.0027', '--whole-runs']; // 9.7 s, less than a run needs by its estimate
    const unknown = ['--only', TINY_RUNS[0] as string, '--max-hours', '1', '--whole-runs'];
    expect((await mod(...args(sweep, '--quiet', ...unknown))).code).toBe(0);
    const { code, stdout, stderr } = await mod(...args(sweep, ...limited));
    expect(code).toBe(75);
    expect(stdout).toContain('1 done, 2 pending');
    for (const run of TINY_RUNS.slice(1)) {
      expect(stderr).toMatch(
        new RegExp(`^${run}: needs about \\d+s by the FLOP/s of ${TINY_RUNS[0]}, `, 'm'),
      );
    }
    expect(await mod(...args(sweep, '--quiet', ...limited))).toEqual({ code: 75, stdout: '', stderr: '' });
    const refused = await mod(...args(sweep, '--whole-runs'));
    expect(refused.code).toBe(2);
    expect(refused.stderr).toContain('--whole-runs requires --max-hours');
  });
});

describe('on_finish', () => {
  const HOOK = `import { readFileSync, writeFileSync } from 'node:fs';
writeFileSync('received.json', JSON.stringify([JSON.parse(readFileSync(0, 'utf8')), process.argv.slice(2)]));
process.exit(Number(process.argv[2]));
`;
  const hooked = (code: number, text = ONE_RUN) => {
    const sweep = tiny(
      `${text}on_finish: [${process.execPath}, hook.mjs, '${code}', '$(touch x); \`touch x\` > x']\n`,
    );
    writeFileSync(join(sweep.folder, 'hook.mjs'), HOOK);
    return sweep;
  };
  const received = ({ folder }: TinySweep) =>
    JSON.parse(readFileSync(join(folder, 'received.json'), 'utf8')) as [SweepSummary, string[]];

  it('runs in the file’s folder without a shell, gets the summary, and is not run if nothing was trained', async () => {
    const sweep = hooked(0);
    expect(await mod(...args(sweep, '--quiet'))).toEqual({ code: 0, stdout: '', stderr: '' });
    const [summary, words] = received(sweep);
    expect(summary).toMatchObject({
      sweep: 'tiny',
      status: 'done',
      runs: { done: 1 },
      trained: [{ run_id: '3e8-baseline-d16l2-s0', status: 'done', note: null }],
      failed: [],
      runs_csv: join(sweep.results, 'tiny', 'runs.csv'),
    });
    expect(words).toEqual(['0', '$(touch x); `touch x` > x']);
    expect(existsSync(join(sweep.folder, 'x'))).toBe(false);
    rmSync(join(sweep.folder, 'received.json'));
    expect(await mod(...args(sweep, '--quiet'))).toEqual({ code: 0, stdout: '', stderr: '' });
    expect(existsSync(join(sweep.folder, 'received.json'))).toBe(false);
  });

  it('receives failures; its own failure is printed but does not fail the sweep', async () => {
    const diverging = hooked(0, `${ONE_RUN}training: {learning_rate: 1e38}\n`);
    const first = await mod(...args(diverging, '--quiet'));
    expect(first.code).toBe(1);
    expect(first.stderr).toMatch(
      /^mod: 3e8-baseline-d16l2-s0: diverged: .*\nmod: tiny: 1 diverged; not reported again .*--accept-diverged settles them\n$/,
    );
    // The next mail of cron is sent when something changes; the exit code stays until the run is settled.
    expect(await mod(...args(diverging, '--quiet'))).toEqual({ code: 1, stdout: '', stderr: '' });
    const settled = await mod(...args(diverging, '--quiet', '--accept-diverged'));
    expect(settled).toEqual({ code: 0, stdout: '', stderr: '' });
    expect(await mod(...args(diverging, '--quiet'))).toEqual({ code: 0, stdout: '', stderr: '' });
    const [{ status, failed }] = received(diverging);
    expect(status).toBe('failed');
    expect(failed[0]?.note).toMatch(/is not a finite number; skipped the batches of sequences \d/);

    const failing = hooked(3);
    const end = await mod(...args(failing, '--quiet'));
    expect(end.code).toBe(0);
    expect(end.stderr).toBe(`mod: on_finish: ${process.execPath}: exit code 3\n`);
    const missing = tiny(`${ONE_RUN}on_finish: [./no-such-program]\n`);
    expect((await mod(...args(missing, '--quiet'))).stderr).toMatch(/^mod: on_finish: .*ENOENT\n$/);
  });
});

describe('disk space', () => {
  it('is checked before training; existing checkpoints count as available', () => {
    const { results } = tiny(ONE_RUN);
    const sweepFolder = join(results, 'tiny');
    const run = plannedRun('a', { params_total: 1e6 });
    // Three checkpoints of 12 MB at a time, and 4 MB that stay, for each of two runs.
    const needed = 2 * 3 * 12e6 + 2 * 4e6;
    const runs = [run, { ...run, run_id: 'b' }];
    checkDisk(sweepFolder, runs, 2, needed + 1e6);
    expect(() => checkDisk(sweepFolder, runs, 2, needed)).toThrow(
      `${sweepFolder}: the checkpoints of 2 runs, 2 at a time, need 76.8 MiB more, but only 76.3 MiB are free`,
    );
    checkDisk(sweepFolder, runs, 1, needed - 36e6 + 1e6);
    const checkpoint = join(runFiles(runFolder(sweepFolder, 'a')).checkpoints, 'step-00000001');
    mkdirSync(checkpoint, { recursive: true });
    writeFileSync(join(checkpoint, 'weights.safetensors'), new Uint8Array(1e6));
    checkDisk(sweepFolder, runs, 2, needed);
  });
});
