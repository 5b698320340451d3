/** The cache on disk of compiled kernels, cuDNN plans and measured choices: files that are checked by a digest. */
import { createHash } from 'node:crypto';
import { mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { cacheFolder } from '../../../machine.js';

/** A cache file: this line, the SHA-256 of the content in hexadecimal and a newline, the content. */
const HEADER = 'mod-cache-1\n';
const DIGEST_LENGTH = 64;

/** The folder of the cache, kept between runs; null for a user without one: nothing is cached. */
export function kernelCacheFolder(): string | null {
  const folder = cacheFolder();
  return folder === null ? null : join(folder, 'cuda');
}

/** The path of a cache file; null without a folder. */
export function cacheFile(folder: string | null, name: string): string | null {
  return folder === null ? null : join(folder, name);
}

/** The content that writeCache wrote; null if the file is missing, truncated, altered or another kind of file. */
export function readCache(path: string | null): Buffer | null {
  if (path === null) return null;
  try {
    const file = readFileSync(path);
    if (file.toString('latin1', 0, HEADER.length) !== HEADER) return null;
    const digest = file.toString('latin1', HEADER.length, HEADER.length + DIGEST_LENGTH);
    const content = file.subarray(HEADER.length + DIGEST_LENGTH + 1);
    return digest === sha256(content) ? content : null;
  } catch {
    return null;
  }
}

/** Writes a cache file atomically. A failed write is not an error: the next start computes the content again. */
export function writeCache(path: string | null, content: Uint8Array): void {
  if (path === null) return;
  const temporary = `${path}.${process.pid}`;
  try {
    mkdirSync(dirname(path), { recursive: true });
    writeFileSync(temporary, Buffer.concat([Buffer.from(`${HEADER}${sha256(content)}\n`), content]));
    renameSync(temporary, path);
  } catch {
    removeQuietly(temporary);
  }
}

function removeQuietly(path: string): void {
  try {
    rmSync(path, { force: true });
  } catch {
    // the folder does not exist
  }
}

function sha256(content: Uint8Array): string {
  return createHash('sha256').update(content).digest('hex');
}
