/** Errors that callers handle by their kind; src/exit-codes.ts maps them to exit codes. */

/** The config, an argument or an input file is wrong: the message names the problem, its place and the remedy. */
export class InputError extends Error {
  override readonly name = 'InputError';
}

/** Not done; trying again later may succeed: another process holds a lock, or `--max-hours` is over. */
export class TryLaterError extends Error {
  override readonly name = 'TryLaterError';
}

/** The device or its driver has failed: the same work may succeed on another device. */
export class DeviceError extends Error {
  override readonly name: string = 'DeviceError';
}

/** Out of device memory: the trainer retries with a smaller micro-batch. */
export class DeviceMemoryError extends Error {
  override readonly name = 'DeviceMemoryError';
}

/** The disk is full: the run stops, and resumes from its last checkpoint once there is space. */
export class DiskFullError extends Error {
  override readonly name = 'DiskFullError';
}

/** Work was stopped before its end by request; its progress is saved. */
export class InterruptedError extends Error {
  override readonly name = 'InterruptedError';
}

/** The text of anything thrown. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
