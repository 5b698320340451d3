/** Input that is not a file: standard input as `-`, named pipes, and the shell's `<(command)`. */
import { openSync, readSync, statSync } from 'node:fs';
import { InputError, messageOf } from '../errors.js';

/** A stream of which the first bytes have been read. Threads of a process share its descriptor. */
export interface Pipe {
  file: number;
  head: Uint8Array;
  /** Whether these are all its bytes. */
  isEnd: boolean;
}

/** Contains the first block of any compression, from which its content is recognised. */
const HEAD_BYTES = 2 ** 21;
/** Milliseconds until a stream that has no bytes yet is read again. */
const PAUSE = 10;

/** Whether a pattern names standard input or another stream. */
export function isPipe(pattern: string): boolean {
  if (pattern === '-') return true;
  const stats = statSync(pattern, { throwIfNoEntry: false });
  return stats?.isFIFO() === true || stats?.isSocket() === true || stats?.isCharacterDevice() === true;
}

/** Opens a stream and waits for its first bytes. @throws InputError if it cannot be read */
export function openPipe(path: string): Pipe {
  try {
    const file = path === '-' ? 0 : openSync(path, 'r');
    const head = Buffer.allocUnsafeSlow(HEAD_BYTES);
    let length = 0;
    for (let read = -1; read !== 0 && length < HEAD_BYTES; length += read)
      read = readPipe(file, head.subarray(length));
    return { file, head: new Uint8Array(head.subarray(0, length)), isEnd: length < HEAD_BYTES };
  } catch (error) {
    throw new InputError(`${path}: cannot be read: ${messageOf(error)}`);
  }
}

/** Reads the next bytes of a file or stream; 0 at its end. Waits for a stream that does not block. */
export function readPipe(file: number, buffer: Buffer): number {
  for (;;) {
    try {
      return readSync(file, buffer);
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      if (code === 'EOF') return 0; // a closed stream on Windows
      if (code !== 'EAGAIN') throw error;
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, PAUSE);
    }
  }
}
