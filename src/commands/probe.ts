/** `mod probe`: prints the selected backend as JSON. Internal: a sweep runs it, since it loads no native code itself. */
import { type BackendChoice, chooseBackend } from '../backends/choose.js';
import type { RequestedBackend } from '../backends/names.js';
import type { RequestedPrecision } from '../backends/precisions.js';

/** @throws InputError if no backend works, or the requested one does not */
export async function probeCommand(
  { backend, precision }: { backend: RequestedBackend; precision: RequestedPrecision },
  out: (text: string) => void,
): Promise<void> {
  const { name, device, precision: used, rejected } = await chooseBackend(backend, precision);
  out(JSON.stringify({ name, device, precision: used, rejected } satisfies BackendChoice));
}
