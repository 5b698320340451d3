/** Whole files, written so that a crash leaves the old one or the new one and never a part. */
import {
  closeSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readdirSync,
  renameSync,
  rmSync,
  writeSync,
} from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { InputError, messageOf } from '../errors.js';

/** `.name.<pid>.tmp`: a writer that died leaves it, the next one recognises it. */
function temporaryName(path: string): string {
  return join(dirname(path), `.${basename(path)}.${process.pid}.tmp`);
}

function writeAll(file: number, bytes: Uint8Array): void {
  for (let at = 0; at < bytes.length; ) at += writeSync(file, bytes, at, bytes.length - at);
}

function syncFolder(folder: string): void {
  const handle = openSync(folder, 'r');
  try {
    fsyncSync(handle);
  } finally {
    closeSync(handle);
  }
}

/** Temporary files of this target whose writer is no longer alive. */
function removeLeftovers(path: string): void {
  const pattern = new RegExp(`^\\.${escaped(basename(path))}\\.(\\d+)\\.tmp$`);
  for (const entry of readdirSync(dirname(path))) {
    const pid = pattern.exec(entry)?.[1];
    if (pid !== undefined && !isAlive(Number(pid))) rmSync(join(dirname(path), entry), { force: true });
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

/**
 * Replaces a file by parts written one after another: temporary file beside it, fsync, rename, fsync of the folder.
 * On any failure the temporary file is removed and the old one stays.
 */
export function writeFileAtomic(path: string, ...parts: (Uint8Array | string)[]): void {
  removeLeftovers(path);
  const temporary = temporaryName(path);
  try {
    const file = openSync(temporary, 'w');
    try {
      for (const part of parts) writeAll(file, typeof part === 'string' ? Buffer.from(part) : part);
      fsyncSync(file);
    } finally {
      closeSync(file);
    }
    renameSync(temporary, path);
  } catch (error) {
    rmSync(temporary, { force: true });
    throw error;
  }
  syncFolder(dirname(path));
}

/** Makes a folder that results go to, and its parents; InputError where it cannot be written. */
export function makeResultsFolder(folder: string): void {
  try {
    mkdirSync(folder, { recursive: true });
    const probe = join(folder, `.probe.${process.pid}.tmp`);
    closeSync(openSync(probe, 'w'));
    rmSync(probe);
  } catch (error) {
    throw new InputError(
      `${folder}: results cannot be written there: ${messageOf(error)}; choose another --results`,
    );
  }
}

/** A text as a regular expression that matches it alone. */
function escaped(text: string): string {
  return text.replace(/[\\^$.*+?()[\]{}|]/g, '\\$&');
}
