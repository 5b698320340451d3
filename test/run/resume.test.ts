/** An interrupted and resumed run equals an uninterrupted one bit for bit, on every backend, for any interruption. */
import { rmSync, truncateSync } from 'node:fs';
import { join } from 'node:path';
import { keep, type Tensor, tensor } from '@tensorflow/tfjs-core';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { CudaRecorder } from '../../src/backends/cuda/driver/recorder.js';
import { checkpointFolder, checkpointSteps, writeCheckpoint } from '../../src/checkpoint/folder.js';
import { DiskFullError } from '../../src/errors.js';
import type { Recorder } from '../../src/ops/recording.js';
import type { PlannedRun } from '../../src/plan/run.js';
import { randomStream } from '../../src/random.js';
import { runFiles } from '../../src/results/run-folder.js';
import type { TrainingSession } from '../../src/run/training-session.js';
import { FAST_BACKENDS, useBackend } from '../support/backends.js';
import { useCuda } from '../support/cuda.js';
import { makeTinySweep, type TinySweep } from '../support/tiny-sweep.js';
import {
  CHECKPOINTED_SWEEP,
  resultOf,
  runsOf,
  type TinyTraining,
  trainTiny,
} from '../support/tiny-training.js';

let sweep: TinySweep;
let runs: PlannedRun[];
beforeAll(() => {
  sweep = makeTinySweep(CHECKPOINTED_SWEEP);
  runs = runsOf(sweep);
});
afterAll(() => rmSync(sweep.folder, { recursive: true }));

const at = (name: string) => join(sweep.folder, name);
const checkpointsOf = (folder: string) => checkpointSteps(runFiles(folder).checkpoints);

describe.each(FAST_BACKENDS)('on %s', (backend) => {
  let options: TinyTraining;
  beforeAll(async () => {
    await useBackend(backend);
    options = { backend };
    if (backend === 'cuda') options.recorder = new CudaRecorder(await useCuda('fp32', true));
  });

  it.each([0, 1, 2, 3])(
    'run %i of the sweep, stopped at random steps, equals an uninterrupted one',
    async (i) => {
      const run = runs[i] as PlannedRun;
      const [whole, broken] = [at(`${backend}-${i}-whole`), at(`${backend}-${i}-broken`)];
      await trainTiny(sweep, run, whole, options);
      const stream = randomStream(i, 'stops', backend);
      let attempts = 0;
      for (let ended = false; !ended; attempts++) {
        let left = 1 + (stream.bits() % 12);
        const { end } = await trainTiny(sweep, run, broken, { ...options, onStep: () => --left === 0 });
        ended = end.kind === 'done';
      }
      expect(attempts).toBeGreaterThan(3);
      expect(resultOf(run, broken)).toEqual(resultOf(run, whole));
    },
  );

  it('resumes from the last checkpoint after a crash', async () => {
    const run = runs[1] as PlannedRun;
    const folder = at(`${backend}-lost`);
    const crash = new Error('as if the machine had lost its power');
    const crashAt = (step: number) => (report: { step: number }) => {
      if (report.step === step) throw crash;
      return undefined;
    };
    for (const step of [3, 8, 21]) {
      await expect(trainTiny(sweep, run, folder, { ...options, onStep: crashAt(step) })).rejects.toBe(crash);
    }
    expect(checkpointsOf(folder)).toEqual([10, 15, 20]);
    expect((await trainTiny(sweep, run, folder, options)).from).toBe(20);
    expect(resultOf(run, folder)).toEqual(resultOf(run, at(`${backend}-1-whole`)));
  });

  it('after a NaN returns to a checkpoint and skips the batch; training with that batch skipped gives the same', async () => {
    const run = runs[1] as PlannedRun;
    const folder = at(`${backend}-numbers`);
    let isSet = false;
    const setNaNOnce = (report: { step: number }, training: TrainingSession): undefined => {
      if (report.step !== 12 || isSet) return;
      isSet = true;
      setNaN(training, options.recorder);
    };
    const { skipped, log, end } = await trainTiny(sweep, run, folder, { ...options, onStep: setNaNOnce });
    // If steps are recorded, the next one was already queued when this one was reported.
    const lost = options.recorder === undefined ? 12 : 13;
    const batch = run.spec.batch_sequences * lost;
    expect(end.kind).toBe('done');
    expect(skipped).toEqual([batch]);
    expect(log.join('\n')).toContain(
      `step ${lost + 1}: loss NaN, gradient norm NaN: back to step 10, skipping the batch of sequence ${batch}`,
    );
    const again = at(`${backend}-again`);
    await trainTiny(sweep, run, again, { ...options, skipped: new Set([batch]) });
    expect(resultOf(run, again)).toEqual(resultOf(run, folder));
    expect(resultOf(run, again)).not.toEqual(resultOf(run, at(`${backend}-1-whole`)));
  });
});

/** Sets a weight to NaN, as a memory error could. */
function setNaN({ model }: TrainingSession, recorder?: Recorder): void {
  const parameter = model.parameters.at(-1) as { value: Tensor };
  const values = new Float32Array(parameter.value.size).fill(Number.NaN);
  if (recorder !== undefined) {
    recorder.overwrite(parameter.value, values); // in the memory that recorded steps read
    return;
  }
  const replaced = keep(tensor(values, parameter.value.shape));
  parameter.value.dispose();
  parameter.value = replaced;
}

describe('a run', () => {
  const options: TinyTraining = { backend: 'wasm' };
  let whole: string;
  beforeAll(async () => {
    await useBackend('wasm');
    whole = at('whole');
    await trainTiny(sweep, runs[1] as PlannedRun, whole, options);
  });

  it('is diverged when a fourth batch would be skipped', async () => {
    const run = runs[1] as PlannedRun;
    const setNaNAt12 = ({ step }: { step: number }, training: TrainingSession): undefined => {
      if (step === 12) setNaN(training);
    };
    const { end, skipped } = await trainTiny(sweep, run, at('diverged'), { ...options, onStep: setNaNAt12 });
    expect(end).toEqual({ kind: 'diverged', step: 13 });
    expect(skipped).toHaveLength(3);
  });

  it('quarantines a damaged checkpoint, names it, and uses the one before', async () => {
    const run = runs[1] as PlannedRun;
    const folder = at('damaged');
    await trainTiny(sweep, run, folder, { ...options, onStep: ({ step }) => step === 17 });
    const newest = checkpointFolder(folder, 18); // the step in progress at the stop request
    truncateSync(join(newest, 'optimizer.safetensors'), 100);
    const { from, log } = await trainTiny(sweep, run, folder, options);
    expect(from).toBe(15);
    expect(log[0]).toMatch(
      /step-00000018\/optimizer\.safetensors: truncated: 100 of \d+ bytes: this checkpoint is not used/,
    );
    expect(resultOf(run, folder)).toEqual(resultOf(run, whole));
  });

  it('stops when the disk is full, keeps earlier checkpoints, and resumes when there is space', async () => {
    const run = runs[1] as PlannedRun;
    const folder = at('full');
    const write: TinyTraining['write'] = async (job) => {
      if (job.step > 10) throw new DiskFullError('no space');
      writeCheckpoint(job);
    };
    await expect(trainTiny(sweep, run, folder, { ...options, write })).rejects.toBeInstanceOf(DiskFullError);
    expect(checkpointsOf(folder)).toEqual([5, 10]);
    expect((await trainTiny(sweep, run, folder, options)).from).toBe(10);
    expect(resultOf(run, folder)).toEqual(resultOf(run, whole));
  });

  it('trains while a checkpoint is written, and writes one checkpoint at a time', async () => {
    const run = runs[1] as PlannedRun;
    const folder = at('slow');
    let [writing, most, seen] = [0, 0, 0];
    const onStep = (): undefined => {
      seen += writing;
    };
    const write: TinyTraining['write'] = async (job) => {
      writing += 1;
      most = Math.max(most, writing);
      await new Promise((resolve) => setTimeout(resolve, 30));
      writeCheckpoint(job);
      writing -= 1;
    };
    await trainTiny(sweep, run, folder, { ...options, write, onStep });
    expect(most).toBe(1);
    expect(seen).toBeGreaterThan(1);
    expect(resultOf(run, folder)).toEqual(resultOf(run, whole));
  });

  it('saves at time intervals, also if the clock is set back', async () => {
    const timed = makeTinySweep(CHECKPOINTED_SWEEP.replace('minutes: 0, steps: 5', 'minutes: 1, steps: 0'));
    const run = runsOf(timed)[1] as PlannedRun;
    let now = 1e9;
    const jobs: number[] = [];
    const onStep = ({ step }: { step: number }): undefined => {
      now += 20_000; // three steps a minute
      if (step === 10) now -= 3_600_000;
    };
    const write: TinyTraining['write'] = async (job) => void jobs.push(job.step);
    await trainTiny(timed, run, at('clock'), { ...options, now: () => now, onStep, write });
    rmSync(timed.folder, { recursive: true });
    expect(jobs.slice(0, 6)).toEqual([4, 8, 14, 18, 22, 26]); // a minute is over in the fourth step after each
  });
});
