/** The two kinds of failure that a command reports in one sentence; src/cli.ts gives each its exit code. */

/** The config, the arguments or an input file is wrong: the message says what, where and what to do. */
export class InputError extends Error {
  override readonly name = 'InputError';
}

/** Not done, worth trying again later: somebody else holds the lock, or the time allowed is over. */
export class TryLaterError extends Error {
  override readonly name = 'TryLaterError';
}

/** The text of anything thrown. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
