/** Waits for a condition in another process. */
import { setTimeout as sleep } from 'node:timers/promises';

/** Polls until `look` returns a truthy value, and returns it. */
export async function waitUntil<T>(
  condition: string,
  look: () => T | Promise<T>,
  seconds: number,
): Promise<NonNullable<T>> {
  const end = performance.now() + 1000 * seconds;
  for (;;) {
    const found = await look();
    if (found) return found;
    if (performance.now() > end) throw new Error(`timed out after ${seconds} s waiting until ${condition}`);
    await sleep(100);
  }
}
