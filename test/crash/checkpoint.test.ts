/** A checkpoint write killed at any system call, or a file damaged anywhere, is never accepted as a valid checkpoint. */
import { spawnSync } from 'node:child_process';
import {
  cpSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { startWasm } from '../../src/backends/wasm/start.js';
import {
  checkCheckpoint,
  checkpointName,
  checkpointSteps,
  writeCheckpoint,
} from '../../src/checkpoint/folder.js';
import { InputError } from '../../src/errors.js';
import type { PlannedRun } from '../../src/plan/run.js';
import { randomStream } from '../../src/random.js';
import { makeTinySweep } from '../support/tiny-sweep.js';
import { CHECKPOINTED_SWEEP, runsOf, trainTiny } from '../support/tiny-training.js';
import { figure, times } from './scale.js';

const KILLED = fileURLToPath(new URL('checkpoint-killed.mjs', import.meta.url));

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'mod-crash-'));
});
afterAll(() => rmSync(folder, { recursive: true }));

/** A run's folder with the checkpoints of steps 1 and 2. */
function runFolder(name: string): string {
  const checkpoints = join(folder, name, 'checkpoints');
  mkdirSync(checkpoints, { recursive: true });
  writeFileSync(join(folder, name, 'steps.csv'), 'step\n1\n2\n3\n');
  for (const step of [1, 2]) write(checkpoints, step, 0, 'never');
  return checkpoints;
}

function write(checkpoints: string, step: number, nth: number, when: string) {
  const args = [KILLED, checkpoints, String(step), String(nth), when];
  return spawnSync(process.execPath, args, { encoding: 'utf8' });
}

it('killed at each system call leaves valid earlier checkpoints, and itself valid or absent', () => {
  const calls = Number(write(runFolder('counted'), 3, 0, 'never').stdout);
  expect(calls).toBeGreaterThan(30);
  const template = runFolder('template');
  const [every, offset] = [times(5, 1), 2];
  let kills = 0;
  for (const when of ['before', 'after']) {
    for (let nth = 1; nth <= calls; nth++) {
      if ((nth + offset) % every !== 0) continue;
      const run = join(folder, `${when}-${nth}`);
      const checkpoints = join(run, 'checkpoints');
      cpSync(join(template, '..'), run, { recursive: true });
      expect(write(checkpoints, 3, nth, when).signal).toBe('SIGKILL');
      kills += 1;
      const steps = checkpointSteps(checkpoints);
      for (const step of steps) checkCheckpoint(join(checkpoints, checkpointName(step)));
      expect([
        [1, 2],
        [1, 2, 3],
        [2, 3],
      ]).toContainEqual(steps);
      // The next write removes the remains.
      expect(write(checkpoints, 4, 0, 'never').status).toBe(0);
      const names = [steps.includes(3) ? 3 : 2, 4].map(checkpointName);
      expect(readdirSync(checkpoints)).toEqual(names);
      rmSync(run, { recursive: true });
    }
  }
  figure('kill -9 at calls of the system in a checkpoint write, losses', `${kills}, 0`);
});

it('truncated or with bits flipped anywhere is rejected, with the file’s name', async () => {
  await startWasm();
  const sweep = makeTinySweep(CHECKPOINTED_SWEEP);
  const run = runsOf(sweep)[1] as PlannedRun;
  const trained = join(sweep.folder, 'run');
  await trainTiny(sweep, run, trained, { backend: 'wasm', onStep: ({ step }) => step === 9 });
  const checkpoint = join(trained, 'checkpoints', checkpointName(10));
  checkCheckpoint(checkpoint);
  const stream = randomStream(0, 'bit flips');
  let [cuts, flips] = [0, 0];
  for (const name of readdirSync(checkpoint)) {
    const path = join(checkpoint, name);
    const whole = readFileSync(path);
    const rejected = () => {
      expect(() => checkCheckpoint(checkpoint)).toThrow(InputError);
      expect(() => checkCheckpoint(checkpoint)).toThrow(path);
    };
    for (let length = 0; length < whole.length; length += 4096 * times(4, 1)) {
      truncateSync(path, length);
      rejected();
      writeFileSync(path, whole);
      cuts += 1;
    }
    for (let i = 0; i < times(20, 400); i++) {
      const bytes = Buffer.from(whole);
      const at = stream.bits() % whole.length;
      bytes[at] = (bytes[at] as number) ^ (1 << (stream.bits() % 8));
      writeFileSync(path, bytes);
      rejected();
      flips += 1;
    }
    writeFileSync(path, whole);
  }
  checkCheckpoint(checkpoint);
  rmSync(sweep.folder, { recursive: true });
  figure('truncations of checkpoint files, every 4 KiB, undetected', `${cuts}, 0`);
  figure('bits flipped in checkpoint files, undetected', `${flips}, 0`);
});

const isRoot = process.getuid?.() === 0;

it.skipIf(!isRoot)('on a full disk fails with ENOSPC and keeps the checkpoint before', () => {
  const disk = join(folder, 'disk');
  mkdirSync(disk);
  const mounted = spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=256k', 'tmpfs', disk]);
  if (mounted.status !== 0) {
    console.info('file systems cannot be mounted here: the full disk is not tested');
    return;
  }
  try {
    const checkpoints = join(disk, 'checkpoints');
    const job = (step: number, size: number) => ({
      checkpoints,
      step,
      files: [{ name: 'weights.safetensors', parts: [new Uint8Array(size).fill(step)] }],
      keep: 2,
      after: [],
    });
    writeCheckpoint(job(1, 100_000));
    for (let i = 0; i < 10; i++) {
      expect(() => writeCheckpoint(job(2, 400_000))).toThrow(expect.objectContaining({ code: 'ENOSPC' }));
      checkCheckpoint(join(checkpoints, checkpointName(1)));
      expect(readdirSync(checkpoints)).toEqual([checkpointName(1)]);
    }
    writeCheckpoint(job(3, 100_000));
    expect(checkpointSteps(checkpoints)).toEqual([1, 3]);
    figure('checkpoints onto a full file system, the one before lost', '10, 0');
  } finally {
    spawnSync('umount', [disk]);
  }
});
