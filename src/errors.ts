/** The kinds of failure that somebody above can do something about; src/cli.ts gives the first two their exit codes. */

/** The config, the arguments or an input file is wrong: the message says what, where and what to do. */
export class InputError extends Error {
  override readonly name = 'InputError';
}

/** Not done, worth trying again later: somebody else holds the lock, or the time allowed is over. */
export class TryLaterError extends Error {
  override readonly name = 'TryLaterError';
}

/** A device has no memory left: the trainer tries again with fewer sequences at once. */
export class DeviceMemoryError extends Error {
  override readonly name = 'DeviceMemoryError';
}

/** A disk has no room left: the run stops, and goes on from its last checkpoint when there is some. */
export class DiskFullError extends Error {
  override readonly name = 'DiskFullError';
}

/** Work that was asked to stop before its end, and has kept what it had. */
export class InterruptedError extends Error {
  override readonly name = 'InterruptedError';
}

/** The text of anything thrown. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
