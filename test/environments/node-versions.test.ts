/** The built program on other versions of Node: `MOD_NODES` lists their binaries, which .ci/run installs from npm. */
import { execFile } from 'node:child_process';
import { rmSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { readManifest } from '../../src/results/run-folder.js';
import { makeTinySweep, runRows, TINY_SWEEP, type TinySweep } from '../support/tiny-sweep.js';

const PROGRAM = fileURLToPath(new URL('../../bin/mod.js', import.meta.url));
const others = (process.env.MOD_NODES ?? '').split(delimiter).filter((path) => path !== '');
if (others.length === 0) console.error('skipped: MOD_NODES lists no binaries of other versions of Node');

/** One routed run of about a second. */
const SWEEP = TINY_SWEEP.replace('[3e8]', '[1e9]')
  .replace('[learned, random]', '[learned]')
  .replace('name: tiny', 'name: tiny\nbaseline: false');
const RUN = '1e9-mod-c0.25-f2-d16l2-s0';

/** Runs the program with its warnings as errors. */
function run(node: string, ...args: string[]): Promise<{ code: number; stdout: string; stderr: string }> {
  return new Promise((resolve) => {
    execFile(node, ['--throw-deprecation', PROGRAM, ...args], (error, stdout, stderr) => {
      resolve({ code: error === null ? 0 : Number(error.code), stdout, stderr });
    });
  });
}

/** The losses of the run after a stop and a resumption. */
async function trained(node: string, { config, results }: TinySweep): Promise<(number | null)[]> {
  const sweep = (...more: string[]) => run(node, 'sweep', config, '--results', results, '--quiet', ...more);
  expect(await sweep('--max-hours', '0.0001')).toEqual({ code: 75, stdout: '', stderr: '' });
  expect(await sweep()).toEqual({ code: 0, stdout: '', stderr: '' });
  const attempts = readManifest(join(results, 'tiny', RUN))?.attempts ?? [];
  expect(attempts.map(({ from_step }) => from_step > 0)).toEqual([false, true]);
  return runRows({ results }).map(({ loss }) => loss as number | null);
}

describe.skipIf(others.length === 0)('on other versions of Node', () => {
  it('help, plan, a sweep that is stopped and resumed: the losses are those of this version', async () => {
    const nodes = [process.execPath, ...others];
    const sweeps = nodes.map(() => makeTinySweep(SWEEP));
    const losses = await Promise.all(
      nodes.map(async (node, i) => {
        const sweep = sweeps[i] as TinySweep;
        expect((await run(node, '--help')).stdout).toMatch(/^Usage: mod /);
        expect((await run(node, 'plan', sweep.config)).stdout).toContain('1 of 1 runs can be trained');
        return trained(node, sweep);
      }),
    );
    expect(losses[0]).toEqual([expect.any(Number)]);
    for (const [i, each] of losses.entries()) expect(each, nodes[i]).toEqual(losses[0]);
    for (const { folder } of sweeps) rmSync(folder, { recursive: true });
  });
});
