/** `mod probe`: which backend would compute, as JSON; asked by a sweep, which loads no native code itself. */
import { chooseBackend } from '../backends/choose.js';
import type { BackendName, Precision } from '../plan/run.js';

/** @throws InputError where nothing works, or not what was asked for */
export async function probeCommand(
  { backend, precision }: { backend: BackendName | 'auto'; precision: Precision },
  out: (text: string) => void,
): Promise<void> {
  const { peakMemoryBytes: _, ...chosen } = await chooseBackend(backend, precision);
  out(JSON.stringify(chosen));
}
