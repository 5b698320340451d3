/** Processor time, for limits that hold on a machine that is busy with other tests. */

/** The result of some work, and the processor seconds of this process until it ended: user and system, all threads. */
export async function timed<T>(work: () => T | Promise<T>): Promise<{ result: T; seconds: number }> {
  const before = process.cpuUsage();
  const result = await work();
  const { user, system } = process.cpuUsage(before);
  return { result, seconds: (user + system) / 1e6 };
}
