/** CPU time, for limits that hold while other tests keep the machine busy. */

/** Runs some work and measures the CPU time of this process meanwhile: user and system, all threads, in seconds. */
export async function timed<T>(work: () => T | Promise<T>): Promise<{ result: T; seconds: number }> {
  const before = process.cpuUsage();
  const result = await work();
  const { user, system } = process.cpuUsage(before);
  return { result, seconds: (user + system) / 1e6 };
}
