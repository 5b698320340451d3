/** How many threads TensorFlow computes with: all cores, unless a process that shares them is told otherwise. */

/**
 * Sets how many threads TensorFlow computes with. It reads this once, when its library is loaded: call it before, or
 * set the variables of `threadEnvironment` for a child process.
 */
export function setThreads(threads: number): void {
  Object.assign(process.env, threadEnvironment(threads));
}

/** The environment of a process in which TensorFlow shall use so many threads. */
export function threadEnvironment(threads: number): Record<string, string> {
  return { TF_NUM_INTRAOP_THREADS: String(threads), TF_NUM_INTEROP_THREADS: '1' };
}
