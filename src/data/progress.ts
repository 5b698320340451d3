/** Shows the progress of reading files: a bar on a terminal, otherwise one line per interval. */

import { SingleBar } from 'cli-progress';
import { bytes, duration } from '../format.js';
import { movesCursor } from '../machine.js';

export interface ReadProgress {
  add(bytes: number): void;
  close(): void;
}

export const silentProgress: ReadProgress = { add: () => undefined, close: () => undefined };

export interface ProgressOptions {
  /** Total bytes, null if unknown, and the bytes of parts that were done before. */
  total: number | null;
  done: number;
  out: NodeJS.WriteStream;
  /** Milliseconds; injected in tests. */
  now: () => number;
  /** Milliseconds between lines. */
  interval: number;
}

export function readProgress(options: ProgressOptions): ReadProgress {
  const { total } = options;
  return movesCursor(options.out) && total !== null ? bar({ ...options, total }) : lines(options);
}

function bar({ total, done, out, now }: ProgressOptions & { total: number }): ReadProgress {
  const started = now();
  let read = 0;
  const progress = new SingleBar({
    format: '{bar} {percentage}%  {text}',
    hideCursor: true,
    stream: out,
    barsize: 24,
  });
  progress.start(total, done, { text: '' });
  return {
    add: (added) => {
      read += added;
      progress.update(done + read, { text: describe(done + read, total, read, now() - started) });
    },
    close: () => progress.stop(),
  };
}

function lines({ total, done, out, now, interval }: ProgressOptions): ReadProgress {
  const started = now();
  let last = started;
  let read = 0;
  return {
    add: (added) => {
      read += added;
      if (now() - last < interval) return;
      last = now();
      out.write(`${describe(done + read, total, read, now() - started)}\n`);
    },
    close: () => undefined,
  };
}

function describe(done: number, total: number | null, read: number, elapsedMs: number): string {
  const perSecond = (1000 * read) / Math.max(1, elapsedMs);
  if (total === null) return `${bytes(done)} read, ${bytes(perSecond)}/s`;
  const left = duration((total - done) / perSecond);
  return `${bytes(done)} of ${bytes(total)} read, ${bytes(perSecond)}/s, ${left} left`;
}
