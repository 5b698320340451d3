/** flock(2) on an open file: from libc, or by the program of util-linux where C functions cannot be called. */
import { spawnSync } from 'node:child_process';
import { InputError } from '../errors.js';
import { hasNativeCalls, koffi, NATIVE_PART_MISSING } from '../ffi.js';

/** The operations that locks need, none of which waits, and the value of each: the same on Linux and macOS. */
const OPERATIONS = { shared: 1 | 4, exclusive: 2 | 4, unlock: 8 } as const;
export type FlockOperation = keyof typeof OPERATIONS;

/** Null: done. `EAGAIN`: another open file has the lock. Any other name of an error: the file system has no locks. */
export type FlockError = string | null;

/** Applies an operation to an open file. The lock belongs to the open file: it ends when its last descriptor is closed. */
export function flock(file: number, operation: FlockOperation): FlockError {
  return hasNativeCalls ? nativeFlock(file, operation) : programFlock(file, operation);
}

/** int flock(int fd, int operation): 0, or -1 and errno. */
let libcFlock: ((fd: number, operation: number) => number) | null = null;

function nativeFlock(file: number, operation: FlockOperation): FlockError {
  libcFlock ??= koffi.load(null).func('flock', 'int', ['int', 'int']) as typeof libcFlock & {};
  for (;;) {
    if (libcFlock(file, OPERATIONS[operation]) === 0) return null;
    const errno = koffi.errno();
    if (errno === koffi.os.errno.EINTR) continue;
    if (errno === koffi.os.errno.EAGAIN) return 'EAGAIN';
    return Object.entries(koffi.os.errno).find(([, value]) => value === errno)?.[0] ?? String(errno);
  }
}

const FLAGS = { shared: ['-n', '-s'], exclusive: ['-n', '-x'], unlock: ['-u'] } as const;

/** flock(1) on a descriptor that it inherits: the open file is the same, so it keeps the lock when that program ends. */
export function programFlock(file: number, operation: FlockOperation): FlockError {
  const stdio = ['ignore', 'ignore', 'pipe', file] as const;
  const { status, error, stderr } = spawnSync('flock', [...FLAGS[operation], '3'], { stdio: [...stdio] });
  if (error !== undefined) throw new InputError(`flock: ${error.message}; ${NATIVE_PART_MISSING}`);
  if (status === 0) return null;
  return status === 1 ? 'EAGAIN' : stderr.toString().trim();
}
