/** `mod sweep --slurm` without Slurm, and the parsing of the output of Slurm's programs. */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { makeResultsFolder } from '../../src/files/atomic.js';
import { writePlan } from '../../src/results/sweep-folder.js';
import { parseMaxArraySize } from '../../src/slurm/arrays.js';
import { currentTasks, parseSacct, parseSqueue, type Task } from '../../src/slurm/queue.js';
import { arrayScript } from '../../src/slurm/script.js';
import { readSubmissions, writeSubmission } from '../../src/slurm/submission.js';
import { plannedRun } from '../results/planned-run.js';
import { mod } from '../support/mod.js';
import { makeTinySweep, TINY_RUNS } from '../support/tiny-sweep.js';

const made: string[] = [];
afterEach(() => {
  vi.unstubAllEnvs();
  for (const folder of made.splice(0)) rmSync(folder, { recursive: true });
});
function folder(): string {
  made.push(mkdtempSync(join(tmpdir(), 'mod-submit-')));
  return made.at(-1) as string;
}
function tiny() {
  const sweep = makeTinySweep();
  made.push(sweep.folder);
  return sweep;
}

describe('without Slurm', () => {
  it('a submission fails with advice, and records nothing as queued', async () => {
    const { config, results } = tiny();
    vi.stubEnv('PATH', '/nowhere');
    const { code, stdout, stderr } = await mod('sweep', config, '--results', results, '--slurm');
    expect({ code, stdout }).toEqual({ code: 2, stdout: '' });
    expect(stderr).toMatch(
      /^mod: Slurm is not installed: sbatch is not in the PATH\. .*login node.*--shard\n$/,
    );
    expect(readSubmissions(join(results, 'tiny'))).toEqual([]);
  });

  it('--dry-run prints valid bash scripts with one task per run, and writes nothing', async () => {
    const { config, results } = tiny();
    vi.stubEnv('PATH', '/nowhere');
    const args = ['--slurm', '--dry-run', '--sbatch', '--partition=gpu --gres=gpu:1', '--concurrency', '2'];
    args.push('--set', 'training={weight_decay: 0.2}');
    const { code, stdout } = await mod('sweep', config, '--results', results, ...args, '--backend', 'wasm');
    vi.unstubAllEnvs();
    expect(code).toBe(0);
    for (const id of TINY_RUNS) expect(stdout).toContain(`\n  ${id}\n`);
    expect(stdout).toContain(
      '#SBATCH --partition=gpu --gres=gpu:1\n#SBATCH --array=0-2%2\n#SBATCH --requeue\n',
    );
    expect(stdout).toMatch(
      / --set 'training=\{weight_decay: 0.2\}' --backend wasm --only "\$run" --config-hash /,
    );
    expect(stdout).toContain(`report ${join(results, 'tiny')}`);
    expect(spawnSync('bash', ['-n'], { input: stdout, encoding: 'utf8' })).toMatchObject({
      status: 0,
      stderr: '',
    });
    expect(existsSync(results)).toBe(false);
  });

  it.each([
    [['--sbatch', '--time=5'], /--sbatch, --concurrency and --dry-run require --slurm/],
    [['--dry-run'], /require --slurm/],
    [['--slurm', '--sbatch', '--time=5\ntouch x'], /--sbatch: expected a single line/],
    [['--slurm', '--jobs', '2'], /'--slurm' cannot be used with option '--jobs/],
    [['--slurm', '--shard', '0/2'], /cannot be used with option '--shard/],
    [['--shard', '2/2'], /Expected I\/N, with I from 0 to N - 1/],
    [['--only', 'a', '--config-hash', 'b', 'c'], /expected one per run of --only, got 2 for 1/],
  ])('%j is rejected', async (flags, message) => {
    const { config, results } = tiny();
    const { code, stderr } = await mod('sweep', config, '--results', results, ...flags);
    expect(code).toBe(2);
    expect(stderr).toMatch(message);
    expect(existsSync(results)).toBe(false);
  });
});

describe('more runs than an array may have', () => {
  /** Slurm's programs, of which sbatch numbers the jobs from 11 and records its arguments and script. */
  function cluster(maxArraySize: string, sbatch = ''): string {
    const programs = folder();
    const program = (name: string, body: string) =>
      writeFileSync(join(programs, name), `#!/bin/sh\ncd '${programs}'\n${body}\n`, { mode: 0o755 });
    program('scontrol', `echo 'MaxArraySize            = ${maxArraySize}'`);
    program('squeue', '');
    program(
      'sbatch',
      `echo x >> count; id=$((10 + $(wc -l < count))); ${sbatch}\ncat > script-$id; echo "$@" > args-$id; echo $id`,
    );
    vi.stubEnv('PATH', `${programs}:/usr/bin:/bin`);
    return programs;
  }
  const submit = (config: string, results: string, ...more: string[]) =>
    mod('sweep', config, '--results', results, '--slurm', ...more);
  const read = (programs: string, name: string) => readFileSync(join(programs, name), 'utf8').trim();

  it('are submitted as several arrays, one after the other under --concurrency, and one report', async () => {
    const { config, results } = tiny();
    const programs = cluster('2');
    const { code, stdout, stderr } = await submit(config, results, '--concurrency', '1');
    expect([code, stderr]).toEqual([0, '']);
    expect(stdout).toContain('jobs 11, 12: 3 runs; job 13: the report after them\n');
    expect(stdout).toMatch(/cancel: scancel 11 12 13\n$/);
    expect(['11', '12', '13'].map((id) => read(programs, `args-${id}`))).toEqual([
      '--parsable',
      '--parsable --dependency=afterany:11',
      '--parsable --dependency=afterany:11:12',
    ]);
    expect(read(programs, 'script-11')).toContain('#SBATCH --array=0-1%1\n');
    expect(read(programs, 'script-12')).toContain('#SBATCH --array=0-0%1\n');
    const submissions = readSubmissions(join(results, 'tiny'));
    expect(submissions.map(({ job_id, runs }) => [job_id, runs.length])).toEqual([
      ['12', 1],
      ['11', 2],
    ]);
    expect(new Set(submissions.flatMap(({ runs }) => runs.map(({ run_id }) => run_id)))).toEqual(
      new Set(TINY_RUNS),
    );
  });

  it('of which only some are accepted: exit code 75 with their jobs, and the report', async () => {
    const { config, results } = tiny();
    const programs = cluster(
      '2',
      '[ $id = 12 ] && { echo "sbatch: error: QOSMaxSubmitJobPerUserLimit" >&2; exit 1; }',
    );
    const { code, stderr } = await submit(config, results);
    expect([code, stderr]).toEqual([
      75,
      'mod: 2 of 3 runs were submitted, as job 11; sbatch rejected the others: QOSMaxSubmitJobPerUserLimit. Run the command again when there is room\n',
    ]);
    expect(read(programs, 'args-13')).toBe('--parsable --dependency=afterany:11');
    expect(readSubmissions(join(results, 'tiny')).map(({ job_id }) => job_id)).toEqual(['11']);
  });

  it('are refused without job arrays', async () => {
    const { config, results } = tiny();
    cluster('0');
    const { code, stderr } = await submit(config, results, '--dry-run');
    expect([code, stderr]).toEqual([2, expect.stringContaining('no job arrays (MaxArraySize is 0)')]);
  });

  it('scontrol: the size, null if it is not there', () => {
    expect(
      parseMaxArraySize('MaxAge = 3\nMaxArraySize            = 1001\nMaxBatchRequeue         = 5\n'),
    ).toBe(1001);
    expect(parseMaxArraySize('MaxBatchRequeue         = 5\n')).toBeNull();
  });
});

it('names and paths are quoted as single words of the script', () => {
  const odd = `a'b "$(touch x)" \`touch x\` %A \\ end`;
  const script = arrayScript({
    name: 'a',
    config: `/${odd}/a.yaml`,
    resultsDir: `/${odd}`,
    folder: `/${odd}/a`,
    command: ['printf', '<%s>\\n'],
    sbatch: '',
    runs: [plannedRun('run')],
    concurrency: undefined,
    flags: [],
  });
  const where = folder();
  const env = { ...process.env, SLURM_ARRAY_TASK_ID: '0', SLURM_ARRAY_JOB_ID: '1' };
  const { stdout, status } = spawnSync('bash', ['-s'], { input: script, encoding: 'utf8', cwd: where, env });
  expect(status).toBe(0);
  expect(stdout.split('\n').slice(1)).toEqual(
    ['sweep', `/${odd}/a.yaml`, '--results', `/${odd}`, '--only', 'run', '--config-hash', 'abc']
      .map((word) => `<${word}>`)
      .concat(''),
  );
  expect(existsSync(join(where, 'x'))).toBe(false);
});

describe('output of Slurm', () => {
  it('squeue: one task per line, with a reason if it waits', () => {
    const printed =
      '12|0|RUNNING|n1|None\n12|1|PENDING||Priority\n13|N/A|PENDING||Dependency\n12|2|FAILED|n2|NonZeroExitCode\n';
    expect(parseSqueue(printed)).toEqual([
      { job: '12', index: 0, state: 'RUNNING', node: 'n1', reason: null },
      { job: '12', index: 1, state: 'PENDING', node: null, reason: 'Priority' },
      { job: '12', index: 2, state: 'FAILED', node: 'n2', reason: null },
    ]);
  });

  it('sacct: one task per line, without those that never started', () => {
    const printed =
      '12_0|TIMEOUT|n1\n12_1|CANCELLED by 1000|None assigned\n12_[2-3]|PENDING|None assigned\n14|COMPLETED|n1\n';
    expect(parseSacct(printed)).toEqual([
      { job: '12', index: 0, state: 'TIMEOUT', node: 'n1', reason: null },
      { job: '12', index: 1, state: 'CANCELLED', node: null, reason: null },
    ]);
  });

  it('a run’s current task is the active one, else the newest', () => {
    const task = (job: string, state: string, active: boolean): Task => ({
      run_id: 'a',
      config_hash: 'x',
      job,
      state,
      active,
      node: null,
      reason: null,
    });
    const of = (...tasks: Task[]) => currentTasks(tasks).get('a')?.job;
    const [failed, waits, timeout] = [
      task('9_1', 'FAILED', false),
      task('10_1', 'PENDING', true),
      task('11_1', 'TIMEOUT', false),
    ];
    expect(of(failed, waits, timeout)).toBe('10_1');
    expect(of(timeout, failed)).toBe('11_1');
    expect(of(failed, timeout)).toBe('11_1');
  });
});

it('mod status reads from sacct the tasks that squeue no longer lists, and works without both', async () => {
  const [results, programs] = [folder(), folder()];
  const sweep = join(results, 'a');
  makeResultsFolder(sweep);
  writePlan(sweep, { name: 'a', base_dir: '/', runs: [plannedRun('first'), plannedRun('second')] });
  const runs = ['first', 'second'].map((run_id) => ({ run_id, config_hash: 'abc' }));
  writeSubmission(sweep, { job_id: '7', job_name: 'mod-a', runs });
  const program = (name: string, body: string) =>
    writeFileSync(join(programs, name), `#!/bin/sh\n${body}\n`, { mode: 0o755 });
  const shown = async () => (await mod('status', sweep)).stdout;
  vi.stubEnv('PATH', `${programs}:/usr/bin:/bin`);
  program('squeue', 'echo "7|1|PENDING||QOSMaxJobsPerUserLimit"');
  program('sacct', 'echo "7_0|OUT_OF_MEMORY|n3"');
  const both = await shown();
  expect(both).toMatch(/^first +pending .* 7_0 OUT_OF_MEMORY on n3$/m);
  expect(both).toMatch(/^second +queued .* 7_1 PENDING \(QOSMaxJobsPerUserLimit\)$/m);
  program('squeue', 'echo "7|1|PENDING||launch failed requeued held"');
  expect(await shown()).toContain('Held by Slurm; to start them: scontrol release 7_1');
  program('sacct', 'echo "Slurm accounting storage is disabled" >&2; exit 1');
  expect(await shown()).toMatch(/^first +pending .* -$/m);
  program('squeue', 'echo "squeue: error: Invalid user: x" >&2; exit 1');
  const neither = await shown();
  expect(neither).toMatch(/^second +pending .* -$/m);
  expect(neither).toContain('From files only, since Slurm is not available: squeue: Invalid user: x');
});
