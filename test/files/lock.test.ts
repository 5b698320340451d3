/** Locks between processes: one holder, released at any end of the process, not inherited by children. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { hostname, tmpdir, userInfo } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { InputError, TryLaterError } from '../../src/errors.js';
import { acquireLock, isLocked, waitForLock } from '../../src/files/lock.js';

const lockModule = new URL('./lock-holder.mjs', import.meta.url).pathname;

let folder: string;
let path: string;
const children: ChildProcess[] = [];
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'mod-lock-'));
  path = join(folder, '.lock');
});
afterEach(() => {
  for (const child of children.splice(0)) child.kill('SIGKILL');
  rmSync(folder, { recursive: true });
});

/** Starts a process that takes the lock and waits; resolves to the line that it prints. */
async function startHolder(withChild = false): Promise<{ child: ChildProcess; line: string }> {
  const child = spawn(process.execPath, [lockModule, path, withChild ? 'child' : ''], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  children.push(child);
  const [line] = (await once(createInterface({ input: child.stdout }), 'line')) as [string];
  return { child, line };
}

async function kill(child: ChildProcess): Promise<void> {
  const exit = once(child, 'exit');
  child.kill('SIGKILL');
  await exit;
}

describe('acquireLock', () => {
  it('excludes the same process too, until it is released', () => {
    expect(isLocked(path)).toBe(false);
    const lock = acquireLock(path, 'a test');
    expect(isLocked(path)).toBe(true);
    expect(() => acquireLock(path, 'again')).toThrow(TryLaterError);
    lock.release();
    lock.release();
    expect(isLocked(path)).toBe(false);
    acquireLock(path, 'again').release();
  });

  it('names the process that holds it, its user and host, in one line', async () => {
    const { child } = await startHolder();
    const message = new RegExp(
      `^${path} is held by process ${child.pid} of ${userInfo().username} on ${hostname()} \\(holder of a test, since 20.*Z\\)$`,
    );
    expect(() => acquireLock(path, 'second')).toThrow(message);
    expect(isLocked(path)).toBe(true);
  });

  it('is free immediately after SIGKILL, even if a child of the holder is alive', async () => {
    const { child, line } = await startHolder(true);
    const grandchild = Number(line);
    try {
      await kill(child);
      process.kill(grandchild, 0); // throws if it has exited
      acquireLock(path, 'next').release();
    } finally {
      process.kill(grandchild, 'SIGKILL');
    }
  });

  it('is taken by exactly one of several processes that start at once', async () => {
    const lines = await Promise.all(Array.from({ length: 6 }, () => startHolder()));
    expect(lines.map(({ line }) => line.split(' ')[0]).sort()).toEqual([
      'TryLaterError',
      'TryLaterError',
      'TryLaterError',
      'TryLaterError',
      'TryLaterError',
      'held',
    ]);
  });

  it('can be waited for, up to a time limit', async () => {
    const { child } = await startHolder();
    setTimeout(() => child.kill('SIGKILL'), 200);
    const started = performance.now();
    expect(() => waitForLock(path, 'second', 0.1)).toThrow(TryLaterError);
    expect(performance.now() - started).toBeGreaterThan(100);
    await once(child, 'exit');
    waitForLock(path, 'second', 0).release();
  });

  it('rejects a missing folder', () => {
    expect(() => acquireLock(join(folder, 'none/.lock'), 'x')).toThrow(InputError);
  });
});
