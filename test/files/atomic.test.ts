/** Atomic writes: all of the new content, or the old content and an error; no temporary file remains. */
import { spawnSync } from 'node:child_process';
import {
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { InputError } from '../../src/errors.js';
import { makeResultsFolder, writeFileAtomic } from '../../src/files/atomic.js';

/** Replacements for the next file system calls, by name. */
const faults = vi.hoisted(() => ({ current: {} as Record<string, (...args: never[]) => unknown> }));

vi.mock('node:fs', async (importOriginal) => {
  const fs = await importOriginal<typeof import('node:fs')>();
  const faulty = (name: 'writeSync' | 'fsyncSync' | 'renameSync') => ({
    [name]: (...args: never[]) =>
      (faults.current[name] ?? (fs[name] as (...args: never[]) => unknown))(...args),
  });
  return { ...fs, ...faulty('writeSync'), ...faulty('fsyncSync'), ...faulty('renameSync') };
});

const { writeSync } = await vi.importActual<typeof import('node:fs')>('node:fs');

function fault(code: string): () => never {
  return () => {
    throw Object.assign(new Error(`${code}: injected`), { code });
  };
}

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'mod-atomic-'));
});
afterEach(() => {
  faults.current = {};
  rmSync(folder, { recursive: true });
});

describe('writeFileAtomic', () => {
  it('replaces a file by all parts in order', () => {
    const path = join(folder, 'a.json');
    writeFileAtomic(path, 'old and longer than the new one');
    writeFileAtomic(path, 'né', Uint8Array.of(0, 255), 'w');
    expect(readFileSync(path)).toEqual(Buffer.from([0x6e, 0xc3, 0xa9, 0, 255, 0x77]));
    expect(readdirSync(folder)).toEqual(['a.json']);
  });

  it('continues after short writes', () => {
    faults.current = {
      writeSync: (file: number, bytes: Uint8Array, at: number, length: number) =>
        writeSync(file, bytes, at, Math.min(length, 3)),
    };
    writeFileAtomic(join(folder, 'a'), 'abcdefgh');
    expect(readFileSync(join(folder, 'a'), 'utf8')).toBe('abcdefgh');
  });

  it.each(['writeSync', 'fsyncSync', 'renameSync'])(
    'keeps the old file and the error code when %s fails',
    (name) => {
      const path = join(folder, 'a');
      writeFileAtomic(path, 'old');
      faults.current = { [name]: fault('ENOSPC') };
      expect(() => writeFileAtomic(path, 'new')).toThrow(
        expect.objectContaining({ code: 'ENOSPC', message: `${path}: cannot be written: ENOSPC: injected` }),
      );
      expect(readFileSync(path, 'utf8')).toBe('old');
      expect(readdirSync(folder)).toEqual(['a']);
    },
  );

  it('removes only the temporary file of a killed writer of the same file', () => {
    const path = join(folder, 'a');
    const died = spawnSync(process.execPath, ['-e', '']).pid;
    faults.current = { renameSync: fault('EIO'), fsyncSync: () => undefined };
    writeFileSync(path, 'old');
    // Temporary names are internal: obtain one from a write that fails before its rename.
    let own = '';
    faults.current.renameSync = (temporary: string) => {
      own = temporary;
      throw new Error('stop');
    };
    expect(() => writeFileAtomic(path, 'new')).toThrow('stop');
    faults.current = {};
    const alive = own.replace(`-${process.pid}.`, `-${process.ppid}.`);
    const dead = own.replace(`-${process.pid}.`, `-${died}.`);
    const elsewhere = own.replace(/\.[0-9a-f]{8}-/, '.00000000-');
    const longAgo = own.replace(/\.[0-9a-f]{8}-/, '.11111111-');
    const ofAnother = dead.replace('/.a.', '/.b.');
    for (const name of [alive, dead, elsewhere, longAgo, ofAnother]) writeFileSync(name, 'part');
    utimesSync(longAgo, 1e9, 1e9);
    vi.spyOn(Date, 'now').mockReturnValue(Date.now() + 1e9); // a clock that is 11 days ahead
    writeFileAtomic(path, 'new');
    vi.restoreAllMocks();
    expect([alive, dead, elsewhere, longAgo, ofAnother].map((name) => existsSync(name))).toEqual([
      true,
      false,
      true,
      false,
      true,
    ]);
  });
});

describe('makeResultsFolder', () => {
  it('makes parent folders, and accepts an existing folder', () => {
    const path = join(folder, 'a/b/c');
    makeResultsFolder(path);
    makeResultsFolder(path);
    expect(readdirSync(path)).toEqual([]);
  });

  it('names a folder that cannot be written, with the reason', () => {
    writeFileSync(join(folder, 'file'), '');
    const path = join(folder, 'file/results');
    expect(() => makeResultsFolder(path)).toThrow(InputError);
    expect(() => makeResultsFolder(path)).toThrow(
      new RegExp(`^${path}: cannot write results there: .*ENOTDIR`),
    );
  });
});
