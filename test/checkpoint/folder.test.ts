/** Checkpoint folders: durability, any failing call, any damage, how many are kept. */
import * as nodeFs from 'node:fs';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import {
  type CheckpointFs,
  type CheckpointJob,
  checkCheckpoint,
  checkpointName,
  checkpointSteps,
  folderBytes,
  keepLatest,
  quarantine,
  writeCheckpoint,
} from '../../src/checkpoint/folder.js';
import { InputError } from '../../src/errors.js';

let run: string;
let checkpoints: string;
beforeEach(() => {
  run = mkdtempSync(join(tmpdir(), 'mod-checkpoint-'));
  checkpoints = join(run, 'checkpoints');
});
afterEach(() => rmSync(run, { recursive: true }));

const job = (step: number, keep = 2): CheckpointJob => ({
  checkpoints,
  step,
  files: [
    { name: 'a', parts: [Buffer.from(`step ${step}, `), Buffer.from('in two parts')] },
    { name: 'empty', parts: [] },
  ],
  keep,
  after: [join(run, 'steps.csv')],
});
const at = (step: number) => join(checkpoints, checkpointName(step));

/** The file system, with `onCall` called after every call. */
function observedFs(
  onCall: (name: string, args: unknown[], n: number, result: unknown) => void,
): CheckpointFs {
  let calls = 0;
  return new Proxy(nodeFs, {
    get: (target, name: string) => {
      const call = target[name as keyof typeof nodeFs] as (...args: unknown[]) => unknown;
      return (...args: unknown[]) => {
        const result = call(...args);
        onCall(name, args, calls++, result);
        return result;
      };
    },
  }) as unknown as CheckpointFs;
}

describe('a checkpoint', () => {
  it('is synced before it gets its final name, and named before the oldest is removed', () => {
    writeFileSync(join(run, 'steps.csv'), 'step\n');
    writeCheckpoint(job(1, 1));
    const calls: string[] = [];
    const open = new Map<number, string>();
    const short = (path: unknown) =>
      String(path)
        .slice(run.length + 1)
        .replace('checkpoints/', '');
    const fs = observedFs((name, args, _, result) => {
      if (name === 'openSync') open.set(result as number, short(args[0]));
      if (name === 'fsyncSync') calls.push(`fsync ${open.get(args[0] as number)}`);
      if (name === 'renameSync') calls.push(`rename ${short(args[0])} ${short(args[1])}`);
    });
    writeCheckpoint(job(2, 1), fs);
    expect(calls).toEqual([
      'fsync .step-00000002.tmp/a',
      'fsync .step-00000002.tmp/empty',
      'fsync .step-00000002.tmp/manifest.json',
      'fsync steps.csv',
      'fsync .step-00000002.tmp',
      'rename .step-00000002.tmp step-00000002',
      'fsync checkpoints',
      'rename step-00000001 .step-00000001.old',
    ]);
    expect(readdirSync(checkpoints)).toEqual(['step-00000002']);
    expect(readFileSync(join(at(2), 'a'), 'utf8')).toBe('step 2, in two parts');
    checkCheckpoint(at(2));
  });

  it('fails with the code of any failing call, and keeps the previous checkpoint', () => {
    writeCheckpoint(job(1));
    let calls = 0;
    writeCheckpoint(
      job(2),
      observedFs(() => {
        calls += 1;
      }),
    );
    rmSync(at(2), { recursive: true });
    for (let failing = 0; failing < calls; failing++) {
      const fs = observedFs((name, _, n) => {
        if (n === failing) throw Object.assign(new Error(`ENOSPC: ${name}`), { code: 'ENOSPC' });
      });
      try {
        writeCheckpoint(job(2), fs);
      } catch (error) {
        expect(error).toMatchObject({ code: 'ENOSPC' });
      }
      checkCheckpoint(at(1));
      for (const step of checkpointSteps(checkpoints)) checkCheckpoint(at(step));
      rmSync(at(2), { recursive: true, force: true });
    }
    expect(calls).toBeGreaterThan(20);
  });

  it('is complete after short writes', () => {
    const fs = {
      ...nodeFs,
      writeSync: ((file: number, bytes: Uint8Array, from: number, length: number) =>
        nodeFs.writeSync(file, bytes, from, Math.min(length, 3))) as typeof nodeFs.writeSync,
    };
    writeCheckpoint(job(1), fs);
    checkCheckpoint(at(1));
    expect(readFileSync(join(at(1), 'a'), 'utf8')).toBe('step 1, in two parts');
  });

  it.each(['a', 'empty', 'manifest.json'])('is rejected without its %s', (name) => {
    writeCheckpoint(job(1));
    rmSync(join(at(1), name));
    expect(() => checkCheckpoint(at(1))).toThrow(InputError);
    expect(() => checkCheckpoint(at(1))).toThrow(join(at(1), name));
  });

  it('is rejected under the name of another step', () => {
    writeCheckpoint(job(1));
    nodeFs.renameSync(at(1), at(7));
    expect(() => checkCheckpoint(at(7))).toThrow('belongs to step 1, not to this folder');
  });

  it('replaces one of the same step and the remains of a killed writer', () => {
    nodeFs.mkdirSync(join(checkpoints, '.step-00000003.tmp'), { recursive: true });
    writeFileSync(join(checkpoints, '.step-00000003.tmp/a'), 'half');
    writeCheckpoint(job(4));
    writeFileSync(join(at(4), 'a'), 'damaged');
    writeCheckpoint(job(4));
    checkCheckpoint(at(4));
    expect(readdirSync(checkpoints)).toEqual(['step-00000004']);
  });

  it('is among the newest that are kept; a damaged one is quarantined until the run is done', () => {
    for (const step of [1, 2, 10, 100_000_000]) writeCheckpoint(job(step, 3));
    expect(checkpointSteps(checkpoints)).toEqual([2, 10, 100_000_000]);
    const bytes = folderBytes(checkpoints);
    quarantine(at(10));
    expect(checkpointSteps(checkpoints)).toEqual([2, 100_000_000]);
    expect(folderBytes(checkpoints)).toBe(bytes);
    keepLatest(checkpoints);
    expect(readdirSync(checkpoints)).toEqual(['step-100000000']);
    expect(folderBytes(join(run, 'none'))).toBe(0);
  });
});
