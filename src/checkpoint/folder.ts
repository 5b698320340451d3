/** Checkpoint folders: writes them atomically, verifies their checksums, removes the oldest. */
import { createHash } from 'node:crypto';
import * as nodeFs from 'node:fs';
import { closeSync, fstatSync, openSync, readFileSync, readSync, renameSync, rmSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { InputError, messageOf } from '../errors.js';
import { syncFolder, writeAll } from '../files/atomic.js';
import { runFiles } from '../results/run-folder.js';

/** A file of a checkpoint, in consecutive parts. */
export interface CheckpointFile {
  name: string;
  parts: Uint8Array[];
}

/** What the writer thread needs to write a checkpoint. */
export interface CheckpointJob {
  /** checkpoints/ of the run's folder. */
  checkpoints: string;
  step: number;
  files: CheckpointFile[];
  /** Checkpoints to keep, this one included. */
  keep: number;
  /** Files that the checkpoint depends on: flushed to disk before it becomes valid. */
  after: string[];
}

/** The file system calls that write a checkpoint; in tests each of them fails or kills the process. */
export type CheckpointFs = Pick<
  typeof nodeFs,
  | 'mkdirSync'
  | 'openSync'
  | 'writeSync'
  | 'fsyncSync'
  | 'closeSync'
  | 'renameSync'
  | 'rmSync'
  | 'readdirSync'
  | 'existsSync'
>;

const MANIFEST_FORMAT = 'mod-checkpoint-files-1';
export const MANIFEST_FILE = 'manifest.json';
/** Suffix of a quarantined checkpoint's name. */
export const DAMAGED = '.damaged';

interface Manifest {
  format: typeof MANIFEST_FORMAT;
  step: number;
  files: Record<string, { bytes: number; sha256: string }>;
}

/** Bytes of one read at most. */
const CHUNK_BYTES = 16 * 2 ** 20;

/** step-00001200 */
export function checkpointName(step: number): string {
  return `step-${String(step).padStart(8, '0')}`;
}

/** checkpoints/step-00001200 */
export function checkpointFolder(runFolder: string, step: number): string {
  return join(runFiles(runFolder).checkpoints, checkpointName(step));
}

/** The checkpoint with the most steps; null if there is none. */
export function latestCheckpoint(runFolder: string): string | null {
  const latest = checkpointSteps(runFiles(runFolder).checkpoints).at(-1);
  return latest === undefined ? null : checkpointFolder(runFolder, latest);
}

/** The steps of the checkpoints in a run's checkpoints/, ascending; their files are not verified. */
export function checkpointSteps(
  checkpoints: string,
  fs: Pick<CheckpointFs, 'readdirSync'> = nodeFs,
): number[] {
  return namesIn(checkpoints, fs)
    .filter((name) => /^step-\d{8,}$/.test(name))
    .map((name) => Number(name.slice('step-'.length)))
    .sort((a, b) => a - b);
}

/**
 * Writes a checkpoint under a temporary name, flushes every file and the folder to disk, renames it, flushes the parent,
 * and only then removes the oldest. On failure the existing checkpoints stay; the system's error is rethrown with its
 * `code`, the path added to its message.
 */
export function writeCheckpoint(job: CheckpointJob, fs: CheckpointFs = nodeFs): void {
  const { checkpoints, step, files, keep, after } = job;
  const target = join(checkpoints, checkpointName(step));
  const temporary = hidden(target, 'tmp');
  try {
    if (fs.mkdirSync(checkpoints, { recursive: true }) !== undefined) syncFolder(dirname(checkpoints), fs);
    removeHidden(checkpoints, fs);
    fs.mkdirSync(temporary);
    const written: Manifest['files'] = {};
    for (const { name, parts } of files) written[name] = writeFile(join(temporary, name), parts, fs);
    const manifest = manifestText({ format: MANIFEST_FORMAT, step, files: written });
    writeFile(join(temporary, MANIFEST_FILE), [Buffer.from(manifest)], fs);
    for (const path of after) if (fs.existsSync(path)) syncFolder(path, fs);
    syncFolder(temporary, fs);
    if (fs.existsSync(target)) remove(target, fs);
    fs.renameSync(temporary, target);
    syncFolder(checkpoints, fs);
  } catch (error) {
    try {
      fs.rmSync(temporary, { recursive: true, force: true });
    } catch {
      // The next checkpoint removes it.
    }
    if (error instanceof Error) error.message = `${target}: cannot be written: ${error.message}`;
    throw error;
  }
  removeOldest(checkpoints, keep, fs);
}

/** Bytes of all files of a checkpoint. */
export function checkpointFileBytes(files: readonly CheckpointFile[]): number {
  return files.reduce((sum, { parts }) => sum + parts.reduce((bytes, part) => bytes + part.length, 0), 0);
}

/** Bytes of the files of all checkpoints in a run's checkpoints/. */
export function folderBytes(checkpoints: string): number {
  return namesIn(checkpoints, nodeFs)
    .flatMap((name) => namesIn(join(checkpoints, name), nodeFs).map((file) => join(checkpoints, name, file)))
    .reduce((sum, path) => sum + (nodeFs.statSync(path, { throwIfNoEntry: false })?.size ?? 0), 0);
}

/** Removes all checkpoints but the newest, once the run is done. */
export function keepLatest(checkpoints: string): void {
  removeOldest(checkpoints, 1, nodeFs);
  for (const name of namesIn(checkpoints, nodeFs)) {
    if (name.endsWith(DAMAGED)) rmSync(join(checkpoints, name), { recursive: true, force: true });
  }
}

function removeOldest(checkpoints: string, keep: number, fs: CheckpointFs): void {
  const old = checkpointSteps(checkpoints, fs).slice(0, -keep);
  for (const step of old) remove(join(checkpoints, checkpointName(step)), fs);
}

/**
 * Verifies every byte of a checkpoint against its manifest.
 *
 * @throws InputError naming the file and what is wrong with it
 */
export function checkCheckpoint(folder: string): void {
  const { step, files } = readManifest(folder);
  if (checkpointName(step) !== basename(folder)) {
    throw new InputError(`${join(folder, MANIFEST_FILE)}: belongs to step ${step}, not to this folder`);
  }
  for (const name of Object.keys(files)) checkFile(folder, name, files);
}

/**
 * Verifies some files of a checkpoint against its manifest; nothing if there is no manifest. A copy of a checkpoint may lack
 * it, or have another folder name.
 *
 * @throws InputError as checkCheckpoint does
 */
export function checkFiles(folder: string, names: readonly string[]): void {
  if (!nodeFs.existsSync(join(folder, MANIFEST_FILE))) return;
  const { files } = readManifest(folder);
  for (const name of names) checkFile(folder, name, files);
}

function checkFile(folder: string, name: string, files: Manifest['files']): void {
  const path = join(folder, name);
  const known = files[name];
  if (known === undefined) throw new InputError(`${path}: not in the manifest`);
  const found = fileDigest(path);
  if (found.bytes !== known.bytes) {
    throw new InputError(`${path}: truncated: ${found.bytes} of ${known.bytes} bytes`);
  }
  if (found.sha256 !== known.sha256) {
    throw new InputError(`${path}: corrupt: its checksum differs from the manifest's`);
  }
}

/** Renames a damaged checkpoint so that it is not used; it can be inspected until the run is done. */
export function quarantine(folder: string): void {
  const target = `${folder}${DAMAGED}`;
  rmSync(target, { recursive: true, force: true });
  renameSync(folder, target);
  syncFolder(dirname(folder));
}

function readManifest(folder: string): Manifest {
  const path = join(folder, MANIFEST_FILE);
  let text: string;
  let manifest: Manifest;
  try {
    text = readFileSync(path, 'utf8');
    const { sha256: _, ...content } = JSON.parse(text);
    manifest = content;
  } catch (error) {
    throw new InputError(`${path}: cannot be read: ${messageOf(error)}`);
  }
  // The text is a function of the content, so that any flipped bit is detected.
  if (manifest.format !== MANIFEST_FORMAT || manifestText(manifest) !== text) {
    throw new InputError(`${path}: corrupt: its checksum does not match its content`);
  }
  return manifest;
}

function manifestText(manifest: Manifest): string {
  const sha256 = createHash('sha256').update(JSON.stringify(manifest)).digest('hex');
  return `${JSON.stringify({ ...manifest, sha256 }, null, 1)}\n`;
}

function writeFile(path: string, parts: Uint8Array[], fs: CheckpointFs): { bytes: number; sha256: string } {
  const hash = createHash('sha256');
  let bytes = 0;
  const file = fs.openSync(path, 'wx');
  try {
    for (const part of parts) {
      hash.update(part);
      writeAll(file, part, fs.writeSync);
      bytes += part.length;
    }
    fs.fsyncSync(file);
  } finally {
    fs.closeSync(file);
  }
  return { bytes, sha256: hash.digest('hex') };
}

function fileDigest(path: string): { bytes: number; sha256: string } {
  let file: number | null = null;
  try {
    file = openSync(path, 'r');
    const hash = createHash('sha256');
    const chunk = Buffer.alloc(Math.min(CHUNK_BYTES, fstatSync(file).size));
    let bytes = 0;
    for (;;) {
      const read = chunk.length === 0 ? 0 : readSync(file, chunk, 0, chunk.length, bytes);
      if (read === 0) return { bytes, sha256: hash.digest('hex') };
      hash.update(chunk.subarray(0, read));
      bytes += read;
    }
  } catch (error) {
    throw new InputError(`${path}: cannot be read: ${messageOf(error)}`);
  } finally {
    if (file !== null) closeSync(file);
  }
}

/** Removes a checkpoint atomically: a crash leaves all of it, or a hidden folder that is not a checkpoint. */
function remove(folder: string, fs: CheckpointFs): void {
  const out = hidden(folder, 'old');
  fs.rmSync(out, { recursive: true, force: true });
  fs.renameSync(folder, out);
  fs.rmSync(out, { recursive: true, force: true });
}

/** The name of a checkpoint while it is written or removed. */
function hidden(folder: string, end: 'tmp' | 'old'): string {
  return join(dirname(folder), `.${basename(folder)}.${end}`);
}

/** Removes the leftovers of killed processes: the run's lock excludes live ones. */
function removeHidden(checkpoints: string, fs: CheckpointFs): void {
  for (const name of namesIn(checkpoints, fs)) {
    if (/^\.step-\d+\.(tmp|old)$/.test(name))
      fs.rmSync(join(checkpoints, name), { recursive: true, force: true });
  }
}

function namesIn(folder: string, fs: Pick<CheckpointFs, 'readdirSync'>): string[] {
  try {
    return fs.readdirSync(folder);
  } catch (error) {
    if (['ENOENT', 'ENOTDIR'].includes((error as NodeJS.ErrnoException).code ?? '')) return [];
    throw error;
  }
}
