/** Whole files, written so that a crash leaves the old one or the new one and never a part. */
import { createHash } from 'node:crypto';
import type * as nodeFs from 'node:fs';
import {
  closeSync,
  fstatSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeSync,
} from 'node:fs';
import { hostname } from 'node:os';
import { basename, dirname, join, resolve } from 'node:path';
import { InputError, messageOf } from '../errors.js';

/** One call writes at most this much: Node refuses lengths beyond 2³¹ - 1. */
const CHUNK_BYTES = 2 ** 28;
/**
 * A temporary file of another machine, whose processes cannot be seen, is a leftover after this long, by the clock of the
 * file system that both lie on: those of the machines need not agree.
 */
const FOREIGN_LEFTOVER_MS = 24 * 3600 * 1000;

const host = createHash('sha256').update(hostname()).digest('hex').slice(0, 8);

/**
 * Replaces a file by parts written one after another: temporary file beside it, fsync, rename, fsync of the folder.
 * On any failure the temporary file is removed and the old file stays; the error is the system's own, with its `code`
 * and the path in its message. Temporary files that killed writers of the same path left are removed first.
 */
export function writeFileAtomic(path: string, ...parts: (Uint8Array | string)[]): void {
  const temporary = join(dirname(path), `.${basename(path)}.${host}-${process.pid}.tmp`);
  try {
    const file = openSync(temporary, 'w');
    try {
      removeLeftovers(path, fstatSync(file).mtimeMs);
      for (const part of parts) writeAll(file, typeof part === 'string' ? Buffer.from(part) : part);
      fsyncSync(file);
    } finally {
      closeSync(file);
    }
    renameSync(temporary, path);
    syncFolder(dirname(path));
  } catch (error) {
    rmSync(temporary, { force: true });
    if (error instanceof Error) error.message = `${path}: cannot be written: ${error.message}`;
    throw error;
  }
}

/** Replaces a text file, unless it says the same: those who only look leave its time, and what others read, alone. */
export function writeTextIfChanged(path: string, text: string): void {
  let before: string | null = null;
  try {
    before = readFileSync(path, 'utf8');
  } catch {
    // None there, or none that can be read: it is written.
  }
  if (before !== text) writeFileAtomic(path, text);
}

/** Writes every byte: one call of the system may take fewer than it is given. */
export function writeAll(file: number, bytes: Uint8Array, write: typeof writeSync = writeSync): void {
  for (let at = 0; at < bytes.length; ) {
    at += write(file, bytes, at, Math.min(bytes.length - at, CHUNK_BYTES));
  }
}

/** The calls that flush a file or folder. */
export type SyncCalls = Pick<typeof nodeFs, 'openSync' | 'fsyncSync' | 'closeSync'>;

/** Makes what was created, renamed or removed in a folder survive a loss of power. */
export function syncFolder(folder: string, fs: SyncCalls = { openSync, fsyncSync, closeSync }): void {
  const handle = fs.openSync(folder, 'r');
  try {
    fs.fsyncSync(handle);
  } catch (error) {
    // Some network and FUSE file systems have no such call: then there is nothing more to ask for.
    if (!['EINVAL', 'ENOTSUP'].includes((error as NodeJS.ErrnoException).code ?? '')) throw error;
  } finally {
    fs.closeSync(handle);
  }
}

/**
 * Makes a folder that results go to, and its parents.
 *
 * @param option of the command line, by which people choose another folder
 * @throws InputError where it cannot be written
 */
export function makeResultsFolder(folder: string, option: '--results' | '--out' = '--results'): void {
  try {
    const first = mkdirSync(folder, { recursive: true });
    if (first !== undefined) syncNewFolders(dirname(resolve(first)), resolve(folder));
    const probe = join(folder, `.probe.${host}-${process.pid}.tmp`);
    closeSync(openSync(probe, 'w'));
    rmSync(probe);
  } catch (error) {
    throw new InputError(
      `${folder}: results cannot be written there: ${messageOf(error)}; choose another ${option}`,
    );
  }
}

/** Each new folder is an entry of its parent: all from `folder`'s parent up to `oldest`, which was there before. */
function syncNewFolders(oldest: string, folder: string): void {
  for (let parent = dirname(folder); ; parent = dirname(parent)) {
    syncFolder(parent);
    if (parent === oldest || parent === dirname(parent)) return;
  }
}

/**
 * Removes temporary files of this target whose writer is no longer alive.
 *
 * @param now when a file was written just now, in milliseconds of the file system's clock
 */
function removeLeftovers(path: string, now: number): void {
  const prefix = `.${basename(path)}.`;
  for (const entry of readdirSync(dirname(path))) {
    if (!entry.startsWith(prefix)) continue;
    const [, writerHost, pid] = /^([0-9a-f]{8})-(\d+)\.tmp$/.exec(entry.slice(prefix.length)) ?? [];
    if (writerHost === undefined) continue;
    const leftover = join(dirname(path), entry);
    const isStale =
      writerHost === host ? !isAlive(Number(pid)) : now - written(leftover, now) > FOREIGN_LEFTOVER_MS;
    if (isStale) rmSync(leftover, { force: true });
  }
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}

function written(path: string, now: number): number {
  return statSync(path, { throwIfNoEntry: false })?.mtimeMs ?? now;
}

/** Whether a code of the system's means that a disk, or somebody's share of it, is full. */
export function isDiskFull(code: string | null | undefined): boolean {
  return code === 'ENOSPC' || code === 'EDQUOT';
}
