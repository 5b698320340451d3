/** A run that was broken off ends as one that never was: to the bit, on every backend, whatever broke it off. */
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
    'run %i of the sweep, stopped at random steps, ends as one that never was',
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

  it('goes back from a step that is lost, not saved, to the checkpoint before it', async () => {
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

  it('goes back from numbers that are none and passes over their batch, which a second training repeats', async () => {
    const run = runs[1] as PlannedRun;
    const folder = at(`${backend}-numbers`);
    let poisoned = false;
    const poison = (report: { step: number }, training: TrainingSession): undefined => {
      if (report.step !== 12 || poisoned) return;
      poisoned = true;
      spoil(training, options.recorder);
    };
    const { skipped, log, end } = await trainTiny(sweep, run, folder, { ...options, onStep: poison });
    // Where steps are recorded, the next one was queued already when this one was reported.
    const lost = options.recorder === undefined ? 12 : 13;
    const batch = run.spec.batch_sequences * lost;
    expect(end.kind).toBe('done');
    expect(skipped).toEqual([batch]);
    expect(log.join('\n')).toContain(
      `step ${lost + 1}: loss NaN, gradient norm NaN: back to step 10, passing over the batch of sequence ${batch}`,
    );
    const again = at(`${backend}-again`);
    await trainTiny(sweep, run, again, { ...options, skipped: new Set([batch]) });
    expect(resultOf(run, again)).toEqual(resultOf(run, folder));
    expect(resultOf(run, again)).not.toEqual(resultOf(run, at(`${backend}-1-whole`)));
  });
});

/** A bit of the memory has flipped: a weight is no number. */
function spoil({ model }: TrainingSession, recorder?: Recorder): void {
  const parameter = model.parameters.at(-1) as { value: Tensor };
  const none = new Float32Array(parameter.value.size).fill(Number.NaN);
  if (recorder !== undefined) {
    recorder.overwrite(parameter.value, none); // in the place that recorded steps read
    return;
  }
  const spoilt = keep(tensor(none, parameter.value.shape));
  parameter.value.dispose();
  parameter.value = spoilt;
}

describe('a run', () => {
  const options: TinyTraining = { backend: 'wasm' };
  let whole: string;
  beforeAll(async () => {
    await useBackend('wasm');
    whole = at('whole');
    await trainTiny(sweep, runs[1] as PlannedRun, whole, options);
  });

  it('is diverged when three batches have been passed over and a fourth is wanted', async () => {
    const run = runs[1] as PlannedRun;
    const spoilEach = ({ step }: { step: number }, training: TrainingSession): undefined => {
      if (step === 12) spoil(training);
    };
    const { end, skipped } = await trainTiny(sweep, run, at('diverged'), { ...options, onStep: spoilEach });
    expect(end).toEqual({ kind: 'diverged', step: 13 });
    expect(skipped).toHaveLength(3);
  });

  it('uses the checkpoint before a damaged one, names it and quarantines it', async () => {
    const run = runs[1] as PlannedRun;
    const folder = at('damaged');
    await trainTiny(sweep, run, folder, { ...options, onStep: ({ step }) => step === 17 });
    const newest = checkpointFolder(folder, 18); // the step that was under way when it was asked to stop
    truncateSync(join(newest, 'optimizer.safetensors'), 100);
    const { from, log } = await trainTiny(sweep, run, folder, options);
    expect(from).toBe(15);
    expect(log[0]).toMatch(
      /step-00000018\/optimizer\.safetensors: truncated: 100 of \d+ bytes: this checkpoint is not used/,
    );
    expect(resultOf(run, folder)).toEqual(resultOf(run, whole));
  });

  it('stops when the disk is full, keeps the checkpoint before, and resumes when there is space', async () => {
    const run = runs[1] as PlannedRun;
    const folder = at('full');
    const write: TinyTraining['write'] = async (job) => {
      if (job.step > 10) throw new DiskFullError('no room');
      writeCheckpoint(job);
    };
    await expect(trainTiny(sweep, run, folder, { ...options, write })).rejects.toBeInstanceOf(DiskFullError);
    expect(checkpointsOf(folder)).toEqual([5, 10]);
    expect((await trainTiny(sweep, run, folder, options)).from).toBe(10);
    expect(resultOf(run, folder)).toEqual(resultOf(run, whole));
  });

  it('trains on while a checkpoint is written, and writes no second one beside it', async () => {
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

  it('saves by the clock, also when that is set back', async () => {
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
