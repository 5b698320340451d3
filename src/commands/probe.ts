/**
 * `mod probe`: computes on the selected backend and prints its name as JSON. Internal: a sweep runs it for each GPU, since it
 * loads no native code itself.
 */
import { sum, tensor1d } from '@tensorflow/tfjs-core';
import { type BackendChoice, chooseBackend } from '../backends/choose.js';
import type { RequestedBackend } from '../backends/names.js';
import type { RequestedPrecision } from '../backends/precisions.js';

/**
 * @throws InputError if no backend works, or the requested one does not
 * @throws Error if the device starts but does not compute; on a device that hangs it does not return
 */
export async function probeCommand(
  { backend, precision }: { backend: RequestedBackend; precision: RequestedPrecision },
  out: (text: string) => void,
): Promise<void> {
  const { name, device, precision: used, rejected } = await chooseBackend(backend, precision);
  await sum(tensor1d([1, 2])).data(); // a GPU that is lost or hangs may still start
  out(JSON.stringify({ name, device, precision: used, rejected } satisfies BackendChoice));
}
