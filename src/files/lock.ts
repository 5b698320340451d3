/** Locks that the kernel holds for a process and drops with it, however it ends: libc's flock, through koffi. */
import { closeSync, ftruncateSync, openSync, readFileSync, writeSync } from 'node:fs';
import { hostname } from 'node:os';
import koffi from 'koffi';
import { InputError, messageOf, TryLaterError } from '../errors.js';

export interface Lock {
  release(): void;
}

/** What the holder of a lock writes into its file, for people. */
interface Holder {
  pid: number;
  host: string;
  description: string;
  started_at: string;
}

/** The same on Linux and macOS. */
const [LOCK_SH, LOCK_EX, LOCK_NB, LOCK_UN] = [1, 2, 4, 8];
/** Tries before a lock that only `isLocked` of others stands in the way of counts as held: about a second. */
const TRIES = 200;

/** int flock(int fd, int operation): 0, or -1 and errno. */
const flock = koffi.load(null).func('flock', 'int', ['int', 'int']) as (
  fd: number,
  operation: number,
) => number;

/**
 * Takes the lock of a file, which is made where it is missing and never removed: a lock on a file that others may
 * delete holds nobody off. Child processes do not inherit it (Node opens every file close-on-exec).
 *
 * @param description what the holder does, for the message that others get
 * @throws TryLaterError at once if another process holds it, saying which
 * @throws InputError if the file cannot be made, or lies on a file system without locks
 */
export function acquireLock(path: string, description: string): Lock {
  const file = open(path, 'a+');
  try {
    lockExclusively(file, path);
    const holder: Holder = {
      pid: process.pid,
      host: hostname(),
      description,
      started_at: new Date().toISOString(),
    };
    ftruncateSync(file);
    writeSync(file, `${JSON.stringify(holder)}\n`);
  } catch (error) {
    closeSync(file);
    throw error;
  }
  let held = true;
  return {
    release: () => {
      if (!held) return;
      held = false;
      ftruncateSync(file);
      closeSync(file);
    },
  };
}

/**
 * Takes a lock that is only ever held for a moment, waiting for others to release it; the event loop waits with it.
 *
 * @param patience seconds
 * @throws TryLaterError if it is still held then
 * @throws InputError as acquireLock does
 */
export function waitForLock(path: string, description: string, patience: number): Lock {
  const end = performance.now() + 1000 * patience;
  for (;;) {
    try {
      return acquireLock(path, description);
    } catch (error) {
      if (!(error instanceof TryLaterError) || performance.now() > end) throw error;
    }
    sleep(5 + Math.random() * 20);
  }
}

/** Whether a process, this one or another, holds the lock of a file. */
export function isLocked(path: string): boolean {
  let file: number;
  try {
    file = openSync(path, 'r');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return false;
    throw error;
  }
  try {
    // Shared, so that two who look do not see each other.
    return !tryLock(file, LOCK_SH, path);
  } finally {
    closeSync(file);
  }
}

function lockExclusively(file: number, path: string): void {
  for (let i = 0; i < TRIES; i++) {
    if (tryLock(file, LOCK_EX, path)) return;
    // If even a shared lock is refused, a holder is there; else somebody only looked, for a moment.
    if (!tryLock(file, LOCK_SH, path)) break;
    flock(file, LOCK_UN);
    sleep(1 + Math.random() * 8);
  }
  throw new TryLaterError(`${path} is held by ${describeHolder(path)}`);
}

/** Whether the lock was free. Never waits. */
function tryLock(file: number, operation: number, path: string): boolean {
  const { EAGAIN, EINTR } = koffi.os.errno;
  for (;;) {
    if (flock(file, operation | LOCK_NB) === 0) return true;
    const errno = koffi.errno();
    if (errno === EAGAIN) return false;
    if (errno !== EINTR) {
      const [name] = Object.entries(koffi.os.errno).find(([, value]) => value === errno) ?? [errno];
      throw new InputError(
        `${path}: cannot be locked (flock: ${name}): results need a file system that has locks`,
      );
    }
  }
}

/** Who holds a lock that is held, in words. */
export function describeHolder(path: string): string {
  try {
    const holder = JSON.parse(readFileSync(path, 'utf8')) as Holder;
    const where = holder.host === hostname() ? '' : ` on ${holder.host}`;
    return `process ${holder.pid}${where} (${holder.description}, since ${holder.started_at})`;
  } catch {
    return 'another process'; // that has not written its name yet
  }
}

function open(path: string, flags: string): number {
  try {
    return openSync(path, flags);
  } catch (error) {
    throw new InputError(`${path}: cannot be locked: ${messageOf(error)}`);
  }
}

function sleep(ms: number): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms);
}
