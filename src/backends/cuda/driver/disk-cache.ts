/** The cache on disk of compiled kernels, cuDNN plans and measured choices: files that are checked by a digest. */
import { createHash } from 'node:crypto';
import { mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { dirname, join } from 'node:path';

/** A cache file: this line, the SHA-256 of the content in hexadecimal and a newline, the content. */
const HEADER = 'mod-cache-1\n';
const DIGEST_LENGTH = 64;

/** The folder of the cache, kept between runs. */
export function cacheFolder(): string {
  return join(process.env.XDG_CACHE_HOME || join(homedir(), '.cache'), 'mod', 'cuda');
}

/** The content that writeCache wrote; null if the file is missing, truncated, altered or another kind of file. */
export function readCache(path: string): Buffer | null {
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
export function writeCache(path: string, content: Uint8Array): void {
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
