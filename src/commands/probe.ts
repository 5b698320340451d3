/** `mod probe`: which backend would compute, as JSON; asked by a sweep, which loads no native code itself. */
import { type BackendChoice, chooseBackend } from '../backends/choose.js';
import type { RequestedBackend } from '../backends/names.js';
import type { RequestedPrecision } from '../backends/precisions.js';

/** @throws InputError where nothing works, or not what was asked for */
export async function probeCommand(
  { backend, precision }: { backend: RequestedBackend; precision: RequestedPrecision },
  out: (text: string) => void,
): Promise<void> {
  const { name, device, precision: used, rejected } = await chooseBackend(backend, precision);
  out(JSON.stringify({ name, device, precision: used, rejected } satisfies BackendChoice));
}
