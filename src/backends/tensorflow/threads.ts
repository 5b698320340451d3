/** The number of threads that TensorFlow uses: by default one for each core; fewer for processes that share the cores. */

/**
 * Sets the number of TensorFlow's threads in this process. TensorFlow reads it when its library is loaded, so call this before
 * that; for a child process use `threadEnvironment`.
 */
export function setThreads(threads: number): void {
  Object.assign(process.env, threadEnvironment(threads));
}

/** Environment variables that set the number of TensorFlow's threads in a process. */
export function threadEnvironment(threads: number): Record<string, string> {
  return { TF_NUM_INTRAOP_THREADS: String(threads), TF_NUM_INTEROP_THREADS: '1' };
}
