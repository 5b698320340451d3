/** Writes an event file so that a TensorBoard which has it open shows the new points: what is there stays, the rest follows. */
import { closeSync, fsyncSync, openSync, readFileSync, truncateSync } from 'node:fs';
import { writeAll, writeFileAtomic } from '../files/atomic.js';
import { readEvents } from './event-reader.js';
import { eventFile, eventRecords, restartRecord, type Scalar } from './tensorboard.js';

/**
 * Brings a file up to date. TensorBoard keeps a file open and reads on at its end, so a replaced file is never read again.
 * If values have changed, as in a run that was trained or evaluated again, a restart at the first of their steps precedes all
 * values from there on. A file that is missing, damaged or not of this program is replaced.
 *
 * @param scalars of one run, by step
 * @param startedAt seconds since 1970
 */
export function writeEvents(path: string, scalars: readonly Scalar[], startedAt: number): void {
  const existing = readIfThere(path);
  const read = existing === null ? null : readEvents(existing);
  if (read === null) {
    writeFileAtomic(path, eventFile(scalars, startedAt));
    return;
  }
  const known = ({ tag, step }: Scalar) => read.values.get(tag)?.get(step);
  const lastSteps = new Map([...read.values].map(([tag, curve]) => [tag, Math.max(...curve.keys())]));
  const changed = scalars.find((scalar) => {
    const value = known(scalar);
    if (value === undefined) return scalar.step < (lastSteps.get(scalar.tag) ?? -1); // a gap is filled
    return value !== Math.fround(scalar.value);
  });
  const added =
    changed === undefined
      ? eventRecords(scalars.filter((scalar) => known(scalar) === undefined))
      : Buffer.concat([
          restartRecord(changed.step, changed.wallTime),
          eventRecords(scalars.filter(({ step }) => step >= changed.step)),
        ]);
  append(path, read.bytes, added);
}

/** Appends in place, after `length` bytes: what follows them is a record that was cut off. */
function append(path: string, length: number, added: Buffer): void {
  truncateSync(path, length);
  const file = openSync(path, 'a');
  try {
    writeAll(file, added);
    fsyncSync(file);
  } finally {
    closeSync(file);
  }
}

function readIfThere(path: string): Buffer | null {
  try {
    return readFileSync(path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null;
    throw error;
  }
}
