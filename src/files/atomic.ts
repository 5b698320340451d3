/** Atomic writes: a crash leaves the old file or the new one, never a part. */
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

/** Bytes of one write at most: Node rejects lengths beyond 2³¹ - 1. */
const CHUNK_BYTES = 2 ** 28;
/**
 * The age at which a temporary file of another machine, whose processes are not visible here, counts as a leftover. The
 * clock is that of the file system: the clocks of the machines may differ.
 */
const FOREIGN_LEFTOVER_MS = 24 * 3600 * 1000;

const host = createHash('sha256').update(hostname()).digest('hex').slice(0, 8);

/**
 * Replaces a file with the given parts: temporary file in the same folder, fsync, rename, fsync of the folder.
 * On failure the temporary file is removed and the old file stays; the system's error is rethrown with its `code`, the
 * path added to its message. Temporary files of killed writers of the same path are removed first.
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

/** Replaces a text file unless it already has this text, so that its modification time stays unchanged. */
export function writeTextIfChanged(path: string, text: string): void {
  let before: string | null = null;
  try {
    before = readFileSync(path, 'utf8');
  } catch {
    // Missing or unreadable: the file is written.
  }
  if (before !== text) writeFileAtomic(path, text);
}

/** Writes every byte: a single write(2) may write only some of them. */
export function writeAll(file: number, bytes: Uint8Array, write: typeof writeSync = writeSync): void {
  for (let at = 0; at < bytes.length; ) {
    at += write(file, bytes, at, Math.min(bytes.length - at, CHUNK_BYTES));
  }
}

/** The system calls that flush a file or folder. */
export type SyncCalls = Pick<typeof nodeFs, 'openSync' | 'fsyncSync' | 'closeSync'>;

/** Makes creations, renames and removals in a folder survive a power loss. */
export function syncFolder(folder: string, fs: SyncCalls = { openSync, fsyncSync, closeSync }): void {
  const handle = fs.openSync(folder, 'r');
  try {
    fs.fsyncSync(handle);
  } catch (error) {
    // Some network and FUSE file systems do not support this call, and have no replacement for it.
    if (!['EINVAL', 'ENOTSUP'].includes((error as NodeJS.ErrnoException).code ?? '')) throw error;
  } finally {
    fs.closeSync(handle);
  }
}

/**
 * Creates a results folder and its parents, and checks that it is writable.
 *
 * @param option the command-line option that chooses the folder, for the message
 * @throws InputError if it cannot be written
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
      `${folder}: cannot write results there: ${messageOf(error)}; choose another ${option}`,
    );
  }
}

/** Flushes the parents of new folders, from `folder`'s up to `oldest`, which existed before. */
function syncNewFolders(oldest: string, folder: string): void {
  for (let parent = dirname(folder); ; parent = dirname(parent)) {
    syncFolder(parent);
    if (parent === oldest || parent === dirname(parent)) return;
  }
}

/**
 * Removes temporary files of this target whose writer is no longer alive.
 *
 * @param now the file system's clock in milliseconds
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

/** Whether a process exists, also one of another user. */
export function isAlive(pid: number): boolean {
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

/** Whether a system error code means that the disk, or the user's quota, is full. */
export function isDiskFull(code: string | null | undefined): boolean {
  return code === 'ENOSPC' || code === 'EDQUOT';
}
