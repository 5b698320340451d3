/** `mod sweep` end to end, in real processes: trains, resumes, rejects, is interrupted. */
import { existsSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import { readCsv } from '../../src/files/csv.js';
import { acquireLock } from '../../src/files/lock.js';
import { EVAL_TABLE, RUN_COLUMNS } from '../../src/results/columns.js';
import { readManifest } from '../../src/results/run-folder.js';
import { readSteps } from '../../src/results/steps.js';
import { sweepFiles } from '../../src/results/sweep-folder.js';
import { mod, startMod } from '../support/mod.js';
import {
  makeTinySweep,
  masked,
  runRows,
  TINY_RUNS,
  TINY_SWEEP,
  type TinySweep,
  trainRunArgs,
} from '../support/tiny-sweep.js';

const made: TinySweep[] = [];
function tiny(text?: string): TinySweep {
  const sweep = makeTinySweep(text);
  made.push(sweep);
  return sweep;
}
afterEach(() => {
  for (const { folder } of made.splice(0)) rmSync(folder, { recursive: true });
});

const train = ({ config, results }: TinySweep, ...flags: string[]) =>
  mod('sweep', config, '--results', results, ...flags);

/** A budget of half a minute, long enough to be interrupted. */
const LONG_SWEEP = TINY_SWEEP.replace('3e8', '3e10').replace(
  'routers: [learned, random]',
  'routers: [learned]',
);
const LONG_RUN = '3e10-baseline-d16l2-s0';

/** Waits until a run has taken its first steps; returns the id of its process. */
async function trainerOf({ results }: TinySweep, runId: string): Promise<number> {
  const folder = join(results, 'tiny', runId);
  for (;;) {
    if (existsSync(join(folder, 'steps.csv'))) {
      return (JSON.parse(readFileSync(join(folder, '.lock'), 'utf8')) as { pid: number }).pid;
    }
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

describe('a sweep', () => {
  it('trains every run, writes its tables, and does nothing in a second call', async () => {
    const sweep = tiny();
    const first = await train(sweep);
    expect(first).toMatchObject({ code: 0, stderr: '' });
    expect(first.stdout).toContain('3/3');
    const rows = runRows(sweep);
    expect(rows.map(({ run_id }) => run_id)).toEqual(TINY_RUNS);
    for (const row of rows) {
      expect(row).toMatchObject({ status: 'done', loss_routing: 'topk', backend: 'wasm', precision: 'fp32' });
      expect(row.loss).toBeGreaterThan(1);
      expect(row.loss).toBeLessThan(Math.log(256));
      for (const known of [
        'train_loss',
        'step_ms',
        'tokens_per_s',
        'wall_s',
        'peak_memory_bytes',
        'finished_at',
      ]) {
        expect(row[known], known).not.toBeNull();
      }
      expect(row.model_flops_utilization).toBeNull();
      const folder = join(sweep.results, 'tiny', row.run_id as string);
      const steps = readSteps(join(folder, 'steps.csv'));
      expect(steps.map(({ step }) => step)).toEqual(
        Array.from({ length: row.steps as number }, (_, i) => i + 1),
      );
      expect(steps.at(-1)?.tokens).toBe(row.tokens);
      expect(readFileSync(join(folder, 'log.txt'), 'utf8')).toMatch(/tok_embed\.weight +\[256,16\]/);
    }
    const evaluations = readCsv<Record<string, unknown>>(join(sweep.results, 'tiny', 'eval.csv'), EVAL_TABLE);
    expect(evaluations.map(({ run_id, routing }) => [run_id, routing])).toEqual([
      [TINY_RUNS[0], 'topk'],
      [TINY_RUNS[1], 'topk'],
      [TINY_RUNS[1], 'predictor'],
      [TINY_RUNS[1], 'quantile'],
      [TINY_RUNS[2], 'topk'],
    ]);
    expect(evaluations.map(({ participation }) => participation)).toEqual([
      null,
      0.25,
      expect.any(Number),
      expect.any(Number),
      0.25,
    ]);

    expect((await train(sweep)).stdout).toContain('nothing to train: 3 of 3 runs are done');
    expect(await train(sweep, '--quiet')).toEqual({ code: 0, stdout: '', stderr: '' });
    expect(runRows(sweep)).toEqual(rows);
  });

  it('gives the same rows when trained again, in parallel or one at a time', async () => {
    const [a, b] = [tiny(), tiny()];
    await train(a, '--jobs', '2');
    await train(b, '--jobs', '1');
    expect(masked(runRows(a))).toEqual(masked(runRows(b)));
    const weights = (sweep: TinySweep, run: string, steps: number) =>
      readFileSync(
        join(
          sweep.results,
          'tiny',
          run,
          'checkpoints',
          `step-${String(steps).padStart(8, '0')}`,
          'weights.safetensors',
        ),
      );
    for (const { run_id, steps } of runRows(a) as { run_id: string; steps: number }[]) {
      expect(weights(a, run_id, steps).equals(weights(b, run_id, steps))).toBe(true);
    }
  });

  it('writes the held-out loss every n steps; the last one is the loss of the run', async () => {
    const sweep = tiny(TINY_SWEEP.replace('sequences: 4', 'sequences: 4, every_steps: 5'));
    await train(sweep, '--only', TINY_RUNS[1] as string);
    const row = runRows(sweep)[1] as { steps: number; loss: number };
    const steps = readSteps(join(sweep.results, 'tiny', TINY_RUNS[1] as string, 'steps.csv'));
    const known = steps.filter(({ heldout_loss }) => heldout_loss !== null);
    const due = steps.filter(({ step }) => step % 5 === 0 || step === row.steps);
    expect(known.map(({ step }) => step)).toEqual(due.map(({ step }) => step));
    expect(known.at(-1)?.heldout_loss).toBe(row.loss);
  });

  it('trains only the runs of --only, and new points of a changed file', async () => {
    const sweep = tiny();
    await train(sweep, '--only', TINY_RUNS[1] as string, '--quiet');
    expect(runRows(sweep).map(({ status }) => status)).toEqual(['pending', 'done', 'pending']);
    writeFileSync(
      sweep.config,
      TINY_SWEEP.replace('[0.25]', '[0.25, 0.5]').replace('[learned, random]', '[learned]'),
    );
    expect(await train(sweep, '--quiet')).toEqual({ code: 0, stdout: '', stderr: '' });
    expect(runRows(sweep).map(({ run_id, status }) => [run_id, status])).toEqual([
      [TINY_RUNS[0], 'done'],
      [TINY_RUNS[1], 'done'],
      ['3e8-mod-c0.5-f2-d16l2-s0', 'done'],
    ]);
    writeFileSync(
      sweep.config,
      TINY_SWEEP.replace('[0.25]', '[0.5]').replace('[learned, random]', '[learned]'),
    );
    expect((await train(sweep)).stdout).toContain(
      `1 run is no longer in ${sweep.config}, and in no table or report: ${TINY_RUNS[1]}. Their folders are kept: mod status --orphans\n`,
    );
  });
});

describe('parts of a sweep', () => {
  it('on several machines train each run once, and keep weights as configured', async () => {
    const text = `${TINY_SWEEP.replace('[0.25]', '[0.25, 0.5]')}checkpoint: {keep_final: best}\n`;
    const [whole, parts] = [tiny(text), tiny(text)];
    await train(whole, '--quiet');
    const ends = await Promise.all(
      ['0/3', '1/3', '2/3'].map((shard) => train(parts, '--quiet', '--shard', shard)),
    );
    for (const end of ends) expect(end).toEqual({ code: 0, stdout: '', stderr: '' });
    expect(masked(runRows(parts))).toEqual(masked(runRows(whole)));
    const weights = ({ results }: TinySweep) =>
      runRows(parts).map(({ run_id }) => existsSync(join(results, 'tiny', run_id as string, 'checkpoints')));
    expect(weights(parts)).toEqual(weights(whole));
    expect(weights(parts).filter((kept) => kept)).toHaveLength(3); // of five runs the best of each variant
    const attempts = runRows(parts).map(
      ({ run_id }) => readManifest(join(parts.results, 'tiny', run_id as string))?.attempts.length,
    );
    expect(attempts).toEqual([1, 1, 1, 1, 1]);
  });

  it('with nothing to train print the reason: an infeasible run, an empty shard', async () => {
    const sweep = tiny(TINY_SWEEP.replace('[3e8]', '[1e6, 3e8]'));
    const run = '1e6-baseline-d16l2-s0';
    const named = await train(sweep, '--only', run);
    expect(named.code).toBe(0);
    expect(named.stdout).toContain(
      `nothing to train: ${run}: the budget allows 0 steps of 2 sequences of 32 tokens, at least 10 are required\n`,
    );
    expect((await train(sweep, '--shard', '7/9')).stdout).toContain(
      'nothing to train: shard 7/9 of 3 feasible runs is empty\n',
    );
  });

  it('do not train a run whose config has changed, and name the changed keys', async () => {
    const sweep = tiny();
    await train(sweep, '--only', TINY_RUNS[0] as string, '--quiet');
    const hash = runRows(sweep)[1]?.config_hash as string;
    writeFileSync(sweep.config, TINY_SWEEP.replace('sequences: 4', 'sequences: 5'));
    const withHash = ['--only', TINY_RUNS[1] as string, '--config-hash'];
    const changed = await train(sweep, ...withHash, hash);
    expect(changed.code).toBe(2);
    expect(changed.stderr).toContain('has changed since these runs were queued');
    expect(changed.stderr).toContain(`${TINY_RUNS[1]}: evaluation.sequences: 4 → 5`);
    expect(changed.stderr).toContain('scancel');
    expect(existsSync(join(sweep.results, 'tiny', TINY_RUNS[1] as string))).toBe(false);
    writeFileSync(sweep.config, TINY_SWEEP.replace('[learned, random]', '[random]'));
    expect((await train(sweep, ...withHash, hash)).stderr).toContain(
      `${TINY_RUNS[1]} is no longer in the file`,
    );
    writeFileSync(sweep.config, TINY_SWEEP);
    expect((await train(sweep, ...withHash, hash, '--quiet')).code).toBe(0);
    expect(runRows(sweep).map(({ status }) => status)).toEqual(['done', 'done', 'pending']);
  });
});

describe('a part under an edited file', () => {
  const [first, second, last] = TINY_RUNS as [string, string, string];
  /** The same sweep by another file. */
  const edited = (sweep: TinySweep, was: string, is: string, dir = sweep.folder) => {
    const config = join(dir, 'edited.yaml');
    writeFileSync(config, TINY_SWEEP.replace(was, is));
    return { ...sweep, config };
  };

  it('is rejected while another process holds the sweep, with the difference; the plan is unchanged', async () => {
    const [sweep, elsewhere] = [tiny(), tiny()];
    expect((await train(sweep, '--only', first, '--quiet')).code).toBe(0);
    const { plan, lock } = sweepFiles(join(sweep.results, 'tiny'));
    const before = readFileSync(plan, 'utf8');
    const held = acquireLock(lock, 'a test');
    const cases = [
      ['batch_sequences: 2', 'batch_sequences: 1', sweep.folder, `${last}: batch_sequences: 2 → 1, steps: `],
      ['[3e8]', '[3e8, 4e8]', sweep.folder, '4e8-baseline-d16l2-s0 is new'],
      ['', '', elsewhere.folder, `folder of the file: ${sweep.folder} → ${elsewhere.folder}`],
    ] as const;
    for (const [was, is, dir, difference] of cases) {
      const { code, stderr } = await train(edited(sweep, was, is, dir), '--only', last);
      expect(code).toBe(75);
      expect(stderr).toContain(`held by process ${process.pid} of `);
      expect(stderr).toContain(difference);
    }
    expect(readFileSync(plan, 'utf8')).toBe(before);
    expect((await train(sweep, '--only', last, '--quiet')).code).toBe(0); // the same plan: in parallel
    held.release();
    expect(runRows(sweep).map(({ status }) => status)).toEqual(['done', 'pending', 'done']);
  });

  it('does not change the run of a training process started before', async () => {
    const sweep = tiny();
    expect((await train(sweep, '--only', first, '--quiet')).code).toBe(0);
    const child = trainRunArgs(sweep, second);
    const smaller = edited(sweep, 'batch_sequences: 2', 'batch_sequences: 1');
    expect((await train(smaller, '--only', last, '--quiet')).code).toBe(0); // the sweep is not locked
    const { code, stderr } = await mod(...child);
    expect(code).toBe(2);
    expect(stderr).toContain('has changed since this run was planned');
    expect(existsSync(join(sweep.results, 'tiny', second, 'manifest.json'))).toBe(false);
  });
});

it('a run that another process finishes between the check and the lock is not trained again', async () => {
  const sweep = tiny(`${TINY_SWEEP}checkpoint: {keep_final: none}\n`);
  expect((await train(sweep, '--quiet')).code).toBe(0);
  const [run] = TINY_RUNS as [string];
  const folder = join(sweep.results, 'tiny', run);
  const result = () => readFileSync(join(folder, 'result.json'), 'utf8');
  const before = result();
  // The child of a sweep that checked before the run was done.
  expect((await mod(...trainRunArgs(sweep, run))).code).toBe(0);
  expect(readManifest(folder)?.attempts).toHaveLength(1);
  expect(result()).toBe(before);
});

describe('a run whose loss is not finite', () => {
  it('prints what to do, and is trained again with a corrected config and --retry', async () => {
    const text = TINY_SWEEP.replace('[0.25]', '[]');
    const sweep = tiny(`${text}training: {learning_rate: 1e38}\n`);
    const [run] = TINY_RUNS as [string];
    const first = await train(sweep, '--quiet');
    expect(first.code).toBe(1);
    expect(first.stderr).toMatch(
      /is not a finite number; .*; lower training\.learning_rate, then mod sweep --retry$/m,
    );
    writeFileSync(sweep.config, `${text}training: {learning_rate: 1e-3}\n`);
    const rejected = await train(sweep, '--quiet');
    expect(rejected.code).toBe(2);
    expect(rejected.stderr).toMatch(/learning_rate: 1e\+38 → 0\.001\. .* or train it again with --retry/);
    expect(await train(sweep, '--quiet', '--retry')).toEqual({ code: 0, stdout: '', stderr: '' });
    expect(runRows(sweep)).toMatchObject([{ run_id: run, status: 'done' }]);
    const folder = join(sweep.results, 'tiny', run);
    expect(readManifest(folder)).toMatchObject({ attempts: [{ from_step: 0 }], skipped_batches: [] });
    expect(readSteps(join(folder, 'steps.csv'))[0]).toMatchObject({ step: 1 });
  });

  it('is diverged, does not stop the others, and is trained again only with --retry', async () => {
    const sweep = tiny(`${TINY_SWEEP}training: {learning_rate: [1e38, 1e-3]}\n`.replace('[0.25]', '[]'));
    const [wild, tame] = ['1e38', '1e-3'].map((rate) => `${TINY_RUNS[0]}-learning_rate-${rate}`);
    const first = await train(sweep, '--quiet');
    expect(first).toMatchObject({ code: 1, stdout: '' });
    expect(first.stderr).toMatch(new RegExp(`${wild}: diverged: the loss or the gradient norm of step \\d`));
    const rows = runRows(sweep);
    expect(rows).toMatchObject([
      { run_id: wild, status: 'diverged', loss: null, loss_routing: null },
      { run_id: tame, status: 'done' },
    ]);
    expect((await train(sweep, '--quiet')).code).toBe(1);
    expect(runRows(sweep)).toEqual(rows);
    expect((await train(sweep, '--quiet', '--retry')).code).toBe(1);
    expect(runRows(sweep)[0]?.started_at).not.toBe(rows[0]?.started_at);
  });
});

describe('a run whose data has changed under the same globs', () => {
  const [RUN] = TINY_RUNS as [string];
  const other = (sweep: TinySweep, text = 'of other things '.repeat(200)) => {
    for (const name of ['train.txt', 'heldout.txt']) writeFileSync(join(sweep.folder, name), text);
  };

  it('does not count as done for a sweep of the same name in another folder; the error names the files', async () => {
    const [a, b] = [tiny(), tiny()];
    const elsewhere = { ...b, results: a.results };
    expect((await train(a, '--only', RUN, '--quiet')).code).toBe(0);
    expect((await train(elsewhere, '--only', RUN)).stdout).toContain('nothing to train'); // the same texts
    const { size } = statSync(join(b.folder, 'train.txt'));
    other(b);
    const rejected = await train(elsewhere, '--only', RUN);
    expect(rejected.code).toBe(2);
    expect(rejected.stderr).toContain(
      `${RUN}: this run has ended on other data: train file train.txt: ${size} bytes → 3200 bytes, heldout`,
    );
  });

  it('is neither evaluated nor analysed', async () => {
    const sweep = tiny();
    const run = TINY_RUNS[1] as string;
    expect((await train(sweep, '--only', run, '--quiet')).code).toBe(0);
    other(sweep);
    for (const command of ['eval', 'analyze']) {
      const { code, stderr } = await mod(command, join(sweep.results, 'tiny', run), '--backend', 'wasm');
      expect(code).toBe(2);
      expect(stderr).toContain('heldout file heldout.txt: 500 bytes → 3200 bytes');
    }
  });

  it('is not resumed', async () => {
    const sweep = tiny(LONG_SWEEP);
    const { child, ended } = startMod(['sweep', sweep.config, '--results', sweep.results, '--jobs', '1']);
    await trainerOf(sweep, LONG_RUN);
    child.kill('SIGTERM');
    expect((await ended).code).toBe(143);
    const heldout = join(sweep.folder, 'heldout.txt');
    const text = readFileSync(heldout, 'utf8');
    writeFileSync(heldout, `${text.slice(0, -1)}~`); // of the same size
    const refused = await train(sweep);
    expect(refused.code).toBe(2);
    expect(refused.stderr).toContain(
      `${LONG_RUN}: this run has been started on other data: heldout file heldout.txt: other content (500 bytes, `,
    );
    other(sweep);
    const { code, stderr } = await train(sweep);
    expect(code).toBe(2);
    expect(stderr).toContain(`${LONG_RUN}: this run has been started on other data: train file train.txt: `);
  });

  it('is still shown, planned and done without the data, and after a move of the folder', async () => {
    const sweep = tiny();
    expect((await train(sweep, '--quiet')).code).toBe(0);
    const moved = `${sweep.folder}-moved`;
    renameSync(sweep.folder, moved);
    const there = { folder: moved, config: join(moved, 'tiny.yaml'), results: join(moved, 'results') };
    made.push(there);
    made.splice(made.indexOf(sweep), 1);
    expect((await train(there)).stdout).toContain('nothing to train: 3 of 3 runs are done');
    for (const name of ['train.txt', 'heldout.txt']) rmSync(join(moved, name));
    expect((await train(there)).stdout).toContain('nothing to train: 3 of 3 runs are done');
    for (const args of [['status'], ['report'], ['plan', there.config]]) {
      expect((await mod(...args, '--results', there.results)).code).toBe(0);
    }
  });
});

describe('a sweep rejects', () => {
  it('a finished run whose config differs, naming the keys', async () => {
    const sweep = tiny();
    await train(sweep, '--only', TINY_RUNS[0] as string);
    writeFileSync(sweep.config, TINY_SWEEP.replace('sequences: 4', 'sequences: 5'));
    const { code, stderr } = await train(sweep);
    expect(code).toBe(2);
    expect(stderr).toContain('evaluation.sequences: 4 → 5');
  });

  it.each([
    ['a missing file', 'text: train.txt', 'text: nothing.txt', "no file matches 'nothing.txt'"],
    ['an empty file', 'heldout_text: heldout.txt', 'heldout_text: empty.txt', 'empty.txt: the file is empty'],
    ['a file shorter than one sequence', 'heldout.txt', 'short.txt', '6 tokens; one sequence of 32'],
  ])('%s as data, before anything is trained', async (_, was, is, message) => {
    const sweep = tiny(TINY_SWEEP.replace(was, is));
    writeFileSync(join(sweep.folder, 'empty.txt'), '');
    writeFileSync(join(sweep.folder, 'short.txt'), 'short');
    const { code, stderr } = await train(sweep);
    expect(code).toBe(2);
    expect(stderr).toContain(message);
    expect(existsSync(sweep.results)).toBe(false);
  });

  it('a results folder that cannot be written, an unknown run, an unknown option', async () => {
    const sweep = tiny();
    const blocked = await mod('sweep', sweep.config, '--results', join(sweep.config, 'x'));
    expect(blocked.code).toBe(2);
    expect(blocked.stderr).toContain('cannot write results there');
    const unknown = await train(sweep, '--only', 'unknown');
    expect(unknown).toMatchObject({ code: 2, stdout: '' });
    expect(unknown.stderr).toBe('mod: --only unknown: not a run of this sweep; mod plan lists the run ids\n');
    expect((await train(sweep, '--quite')).code).toBe(2);
  });
});

describe('a sweep that is interrupted', () => {
  it('by SIGTERM marks its run as interrupted, and locks out others while it runs', async () => {
    const sweep = tiny(LONG_SWEEP);
    const { child, ended } = startMod(['sweep', sweep.config, '--results', sweep.results, '--jobs', '1']);
    const trainer = await trainerOf(sweep, LONG_RUN);
    const second = await train(sweep);
    expect(second.code).toBe(75);
    expect(second.stderr).toContain(`process ${child.pid}`);
    const only = await train(sweep, '--only', LONG_RUN);
    expect(only.code).toBe(75);
    expect(only.stderr).toContain(`process ${trainer}`);
    expect(runRows(sweep)[0]?.status).toBe('running');
    child.kill('SIGTERM');
    expect((await ended).code).toBe(143);
    expect(() => process.kill(trainer, 0)).toThrow();
    expect(runRows(sweep).map(({ status }) => status)).toEqual(['interrupted', 'pending']);
  });

  it('in one run by SIGKILL marks it as failed and continues with the others', async () => {
    const sweep = tiny(LONG_SWEEP.replace('capacities: [0.25]', 'capacities: []'));
    const { ended } = startMod(['sweep', sweep.config, '--results', sweep.results, '--quiet']);
    process.kill(await trainerOf(sweep, LONG_RUN), 'SIGKILL');
    const { code, stderr, stdout } = await ended;
    expect(code).toBe(1);
    expect(stdout).toBe('');
    expect(stderr).toContain(`${LONG_RUN}: failed: its process was killed by SIGKILL`);
    expect(runRows(sweep)[0]).toMatchObject({ status: 'failed', loss: null });
  });

  it('by SIGKILL of its own process ends its training processes', async () => {
    const sweep = tiny(LONG_SWEEP);
    const { child, ended } = startMod(['sweep', sweep.config, '--results', sweep.results, '--jobs', '1']);
    const trainer = await trainerOf(sweep, LONG_RUN);
    child.kill('SIGKILL');
    await ended;
    await expect.poll(() => alive(trainer), { timeout: 5000 }).toBe(false);
  });
});

function alive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

it('runs.csv starts with these columns', () => {
  expect(RUN_COLUMNS.slice(0, 6).join()).toBe('run_id,status,variant,flop_budget,capacity,routing_frequency');
});
