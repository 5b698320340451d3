/** The repository stays small, and its study stays verifiable. */
import { spawnSync } from 'node:child_process';
import { statSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { loadSweepFile } from '../src/config/sweep-file.js';
import { expandSweep } from '../src/plan/expand.js';
import { assertSameConfig, readManifest, readResult } from '../src/results/run-folder.js';
import { runFolder } from '../src/results/sweep-folder.js';

const root = fileURLToPath(new URL('..', import.meta.url));
const git = spawnSync('git', ['-C', root, 'ls-files', '-z'], { encoding: 'utf8', maxBuffer: 1e8 });
const tracked = git.status === 0 ? git.stdout.split('\0').filter((path) => path !== '') : [];

/** Total size of the tracked files below a folder; a deleted file that is still tracked counts 0. */
const bytesBelow = (folder: string) =>
  tracked
    .filter((path) => path.startsWith(folder))
    .reduce((sum, path) => sum + (statSync(join(root, path), { throwIfNoEntry: false })?.size ?? 0), 0);

describe.skipIf(tracked.length === 0)('the tracked files', () => {
  it.each([
    ['', 20e6],
    ['results/linux-bytes/', 5e6],
    ['test/golden/', 3e6],
  ])('below ./%s have at most %d bytes', (folder, limit) => {
    expect(bytesBelow(folder)).toBeGreaterThan(0);
    expect(bytesBelow(folder)).toBeLessThanOrEqual(limit);
  });
});

it('every run of configs/linux-bytes.yaml has ended in results/linux-bytes, under its config hash', () => {
  const runs = expandSweep(loadSweepFile('configs/linux-bytes.yaml'));
  expect(runs).toHaveLength(276);
  for (const run of runs) {
    const folder = runFolder('results/linux-bytes', run.run_id);
    expect(readResult(folder), run.run_id).toMatchObject({
      status: expect.stringMatching(/^(done|diverged)$/),
      config_hash: run.config_hash,
    });
    expect(readManifest(folder)?.config_hash).toBe(run.config_hash);
    expect(() => assertSameConfig(folder, run, {}, false)).not.toThrow();
  }
});
