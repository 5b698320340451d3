/** Sweeps on fake GPUs that are lost, hang or are in use: real processes of the program, calls that compute nothing. */
import { join } from 'node:path';
import { afterEach, expect, it } from 'vitest';
import { loadSweepFile } from '../../src/config/sweep-file.js';
import { exitCodeOfSweep } from '../../src/exit-codes.js';
import { readManifest } from '../../src/results/run-folder.js';
import { sweep } from '../../src/sweep/sweep.js';
import { type FakeProcesses, fakeProcesses } from '../support/fake-cuda.js';
import type { FakeDriverOptions } from '../support/fake-driver/options.js';
import { startMod } from '../support/mod.js';
import { makeTinySweep, runRows, TINY_RUNS, TINY_SWEEP, type TinySweep } from '../support/tiny-sweep.js';

const ON_CUDA = TINY_SWEEP.replace('backend: wasm', 'backend: cuda');
/** ECC_UNCORRECTABLE at the tenth replayed step on GPU 0: the GPU stays lost. */
const LOST_0 = { call: 'cuGraphLaunch', nth: 10, gpu: 0, code: 214, leaves: 'lost' } as const;

const FIRST = TINY_RUNS[0] as string;

const fakes: FakeProcesses[] = [];
const before = { ...process.env };
afterEach(() => {
  for (const fake of fakes.splice(0)) fake.close();
  process.env = { ...before };
});

async function start(options: Partial<FakeDriverOptions>, ...flags: string[]) {
  const fake = await fakeProcesses(options);
  fakes.push(fake);
  const tiny = makeTinySweep(ON_CUDA);
  const args = ['sweep', tiny.config, '--results', tiny.results, ...flags];
  return { tiny, fake, ...(await startMod(args, undefined, fake.environment).ended) };
}

const statuses = (tiny: TinySweep) => runRows(tiny).map(({ status }) => status);

it('a lost GPU is retired, and its run is resumed on the other one', async () => {
  const { tiny, code, stdout } = await start({ gpus: [{}, {}], faults: [LOST_0] });
  expect(stdout).toMatch(/GPU-fake-0 is lost, no more runs start on it: /);
  expect(stdout).toMatch(
    /s0 failed on GPU-fake-0 and goes back to the queue: .*CUDA_ERROR_ECC_UNCORRECTABLE/,
  );
  expect(stdout.match(/is lost/g)).toHaveLength(1);
  expect(statuses(tiny)).toEqual(['done', 'done', 'done']);
  expect(code).toBe(0);
});

it('GPUs that do not work or that others use are passed over, also if one is the default', async () => {
  const dead = { call: 'cuStreamCreate', gpu: 0, code: 46, leaves: 'lost' } as const;
  const gpus = [{}, { othersBytes: 8 * 2 ** 30 }, {}];
  const { tiny, fake, code, stdout } = await start({ gpus, faults: [dead] }, '--only', FIRST);
  expect(stdout).toMatch(/GPU-fake-0 is passed over: .*CUDA_ERROR_DEVICE_UNAVAILABLE/);
  expect(stdout).toMatch(/GPU-fake-1 is passed over: other processes use 8.* of its memory/);
  expect(statuses(tiny)).toEqual(['done', 'pending', 'pending']);
  expect(code).toBe(0);
  const trained = fake.ended().filter(({ calls }) => (calls.cuGraphLaunch ?? 0) > 0);
  expect(trained.map(({ gpu }) => gpu)).toEqual([2]);
});

it('without a GPU the other runs are not started, and a person must look', async () => {
  const { tiny, code, stderr } = await start({ gpus: [{}], faults: [LOST_0] });
  expect(code).toBe(1);
  expect(stderr).toMatch(/: failed: .*CUDA_ERROR_ECC_UNCORRECTABLE/);
  expect(stderr.match(/no GPU is left on which it can train/g)).toHaveLength(2);
  expect(statuses(tiny).sort()).toEqual(['failed', 'pending', 'pending']);
});

it('a run that fails on two GPUs that work has failed, the others go on', async () => {
  const fault = { call: 'cuGraphLaunch', nth: 10, code: 700 };
  const { tiny, code, stderr } = await start({ gpus: [{}, {}, {}], faults: [fault] }, '--only', FIRST);
  expect(code).toBe(1);
  expect(stderr).toMatch(/it failed on GPU-fake-\d and on GPU-fake-\d/);
  expect(statuses(tiny)).toEqual(['failed', 'pending', 'pending']);
});

it('if other processes use all GPUs, a later call may train, or one that shares them', async () => {
  const gpus = [{ othersBytes: 8 * 2 ** 30 }];
  const { code, stderr } = await start({ gpus });
  expect(stderr).toMatch(/no GPU is free: GPU-fake-0 is passed over: .* or share them with --share-gpus/);
  expect(code).toBe(75);
  expect(await start({ gpus }, '--share-gpus', '--only', FIRST)).toMatchObject({ code: 0 });
});

it('a process whose GPU hangs is ended, and its run is resumed on the other one', async () => {
  const hangs = { call: 'cuGraphLaunch', nth: 10, gpu: 0, leaves: 'hung' } as const;
  const fake = await fakeProcesses({ gpus: [{}, {}], faults: [hangs] });
  fakes.push(fake);
  Object.assign(process.env, fake.environment);
  const tiny = makeTinySweep(ON_CUDA);
  const written: string[] = [];
  const outcome = await sweep(loadSweepFile(tiny.config, []), {
    resultsDir: tiny.results,
    only: [FIRST],
    shard: undefined,
    configHashes: [],
    retry: false,
    jobs: 'auto',
    maxHours: undefined,
    wholeRuns: false,
    shareGpus: false,
    limits: { step: 1500, other: 60_000, probe: 5000 },
    quiet: false,
    out: { write: (text: string) => written.push(text) } as unknown as NodeJS.WriteStream,
    times: false,
    program: join(import.meta.dirname, '../../bin/mod.js'),
    backend: 'auto',
    precision: 'auto',
    baselineOf: () => {
      throw new Error('no baseline is asked for');
    },
  } as unknown as Parameters<typeof sweep>[1]);
  expect(written.join('')).toMatch(/its process was ended: a step has not ended after/);
  expect(written.join('')).toMatch(
    /GPU-fake-0 is lost, no more runs start on it: a computation on it has not ended/,
  );
  expect(outcome.trained.map(({ status }) => status)).toEqual(['done']);
  expect(exitCodeOfSweep(outcome)).toBe(0);
  expect(readManifest(join(tiny.results, 'tiny', FIRST))?.attempts).toHaveLength(2);
});
