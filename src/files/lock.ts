/** File locks that the kernel releases when their process ends, however it ends: flock(2). */
import { closeSync, ftruncateSync, openSync, readFileSync, writeSync } from 'node:fs';
import { hostname, userInfo } from 'node:os';
import { InputError, messageOf, TryLaterError } from '../errors.js';
import { flock } from './flock.js';

export interface Lock {
  release(): void;
}

/** The content of a lock file while it is held, for messages. */
interface Holder {
  pid: number;
  host: string;
  /** Absent in files of older versions, the number of a user without a name. */
  user?: string;
  description: string;
  started_at: string;
}

/** Number of attempts, over about one second: `isLocked` briefly holds shared locks. */
const TRIES = 200;

/**
 * Acquires the lock of a file. The file is created if missing and never removed: a lock on a file that may be deleted
 * excludes no other process. Child processes do not inherit the lock (Node opens every file close-on-exec).
 *
 * @param description of the holder, for the messages of other processes
 * @throws TryLaterError at once if another process holds the lock, naming it
 * @throws InputError if the file cannot be created, or is on a file system without locks
 */
export function acquireLock(path: string, description: string): Lock {
  const file = open(path, 'a+');
  try {
    lockExclusively(file, path);
    const holder: Holder = {
      pid: process.pid,
      host: hostname(),
      user: userName(),
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
 * Acquires a lock that is held only briefly; waits for its release. Blocks the event loop.
 *
 * @param timeout seconds
 * @throws TryLaterError if it is still held after that time
 * @throws InputError as acquireLock does
 */
export function waitForLock(path: string, description: string, timeout: number): Lock {
  const end = performance.now() + 1000 * timeout;
  for (;;) {
    try {
      return acquireLock(path, description);
    } catch (error) {
      if (!(error instanceof TryLaterError) || performance.now() > end) throw error;
    }
    sleep(5 + Math.random() * 20);
  }
}

/** Whether any process holds the lock of a file, this one included. */
export function isLocked(path: string): boolean {
  let file: number;
  try {
    file = openSync(path, 'r');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return false;
    throw error;
  }
  try {
    // Shared, so that two concurrent checks do not see each other.
    return !tryLock(file, 'shared', path);
  } finally {
    closeSync(file);
  }
}

function lockExclusively(file: number, path: string): void {
  for (let i = 0; i < TRIES; i++) {
    if (tryLock(file, 'exclusive', path)) return;
    // If even a shared lock is refused, the lock is held; else another process was only checking.
    if (!tryLock(file, 'shared', path)) break;
    flock(file, 'unlock');
    sleep(1 + Math.random() * 8);
  }
  throw new TryLaterError(`${path} is held by ${describeHolder(path)}`);
}

/** Acquires the lock if it is free, without waiting; returns whether it succeeded. */
function tryLock(file: number, operation: 'shared' | 'exclusive', path: string): boolean {
  const error = flock(file, operation);
  if (error === null || error === 'EAGAIN') return error === null;
  throw new InputError(
    `${path}: cannot be locked (flock: ${error}): choose a --results folder on a file system with locks`,
  );
}

/** The name of the user of this process, or the number where it has no name, as in a container. */
function userName(): string {
  try {
    return userInfo().username;
  } catch {
    return String(process.getuid?.());
  }
}

/** A description of the process that holds a lock: `process 7 of ana on node3 (mod sweep 6e18, since ...)`. */
export function describeHolder(path: string): string {
  try {
    const holder = JSON.parse(readFileSync(path, 'utf8')) as Holder;
    const { pid, user, host, description, started_at } = holder;
    const whose = user === undefined ? '' : ` of ${user}`;
    return `process ${pid}${whose} on ${host} (${description}, since ${started_at})`;
  } catch {
    return 'another process'; // it has not written its description yet
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
