/** A real full file system: a sweep is rejected before it starts, stopped during training, and resumes with free space. */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, rmSync, statfsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { checkpointSteps } from '../../src/checkpoint/folder.js';
import { readManifest, runFiles } from '../../src/results/run-folder.js';
import { mod, startMod } from '../support/mod.js';
import { makeTinySweep, runRows, TINY_SWEEP, type TinySweep } from '../support/tiny-sweep.js';
import { figure } from './scale.js';

const RUN = '3e9-baseline-d16l2-s0';
const sweep: TinySweep = makeTinySweep(
  `${TINY_SWEEP.replace('3e8', '3e9').replace('[0.25]', '[]')}checkpoint: {minutes: 0.001}\n`,
);
const disk = sweep.results;
let isMounted = false;

function mount(size: string): void {
  mkdirSync(disk, { recursive: true });
  isMounted = spawnSync('mount', ['-t', 'tmpfs', '-o', `size=${size}`, 'tmpfs', disk]).status === 0;
}
function unmount(): void {
  if (isMounted) spawnSync('umount', [disk]);
  isMounted = false;
}

beforeAll(() => mount('1500k'));
afterAll(() => {
  unmount();
  rmSync(sweep.folder, { recursive: true });
});

describe('a disk', () => {
  it('that fills up during training stops the run with the sizes; it resumes when there is space', async (test) => {
    if (!isMounted) test.skip('file systems cannot be mounted here');
    const { ended } = startMod(['sweep', sweep.config, '--results', disk, '--quiet']);
    const folder = join(disk, 'tiny', RUN);
    while (checkpointSteps(runFiles(folder).checkpoints).length === 0) await sleep(20);
    fill();
    const { code, stdout, stderr } = await ended;
    expect({ code, stdout }).toEqual({ code: 1, stdout: '' });
    expect(stderr).toMatch(
      /failed: .*ENOSPC.*needs \d+ KiB, .* are free; free disk space and start the sweep again/,
    );
    const saved = checkpointSteps(runFiles(folder).checkpoints);
    expect(saved.length).toBeGreaterThan(0);

    rmSync(join(disk, 'junk'));
    expect(await mod('sweep', sweep.config, '--results', disk, '--quiet')).toMatchObject({ code: 0 });
    expect(runRows(sweep)[0]?.status).toBe('done');
    expect(readManifest(folder)?.attempts.at(-1)?.from_step).toBe(saved.at(-1));
    figure('runs stopped by a full disk, resumed from their last checkpoint', '1, 1');
  });

  it('without enough space for the plan is rejected before training', async (test) => {
    if (!isMounted) test.skip('file systems cannot be mounted here');
    rmSync(join(disk, 'tiny'), { recursive: true });
    fill(200 * 1024);
    const { code, stderr } = await mod('sweep', sweep.config, '--results', disk, '--quiet');
    expect(code).toBe(1);
    expect(stderr).toMatch(
      /the checkpoints of 1 run need \d+ KiB more, but only \d+ KiB are free: free disk space/,
    );
    expect(existsSync(join(disk, 'tiny', RUN))).toBe(false);
  });
});

/** Fills the disk except for some bytes. */
function fill(left = 0): void {
  const { bavail, bsize } = statfsSync(disk);
  try {
    writeFileSync(join(disk, 'junk'), new Uint8Array(Math.max(0, bavail * bsize - left)));
  } catch {
    // Another process used the last bytes.
  }
  expect(readFileSync(join(disk, 'junk')).length).toBeGreaterThan(0);
}

function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
