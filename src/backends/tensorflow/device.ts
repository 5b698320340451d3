/** Whether TensorFlow computes where it should: on a machine with an NVIDIA GPU, on the GPU or not at all. */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

/** A folder for each GPU, from NVIDIA's driver. */
const GPUS = '/proc/driver/nvidia/gpus';

/**
 * Whether this machine has an NVIDIA GPU that the process may use. CUDA_VISIBLE_DEVICES set to nothing or -1 hides
 * all of them: then there is none.
 */
export function hasNvidiaGpu(
  exists: (path: string) => boolean = existsSync,
  visible: string | undefined = process.env.CUDA_VISIBLE_DEVICES,
): boolean {
  if (visible !== undefined && ['', '-1'].includes(visible.trim())) return false;
  return exists('/dev/nvidia0') || exists(GPUS);
}

/** The first GPU's name, as its driver gives it. */
export function gpuName(): string {
  try {
    const [first] = readdirSync(GPUS) as [string];
    const information = readFileSync(join(GPUS, first, 'information'), 'utf8');
    return /^Model:\s*(.+)$/m.exec(information)?.[1] ?? 'NVIDIA GPU';
  } catch {
    return 'NVIDIA GPU';
  }
}

/** Why TensorFlow must not be used on this machine, and what to do; null if it may. */
export function refuseDevice({
  machineHasGpu,
  onGpu,
}: {
  machineHasGpu: boolean;
  onGpu: boolean;
}): string | null {
  if (!machineHasGpu || onGpu) return null;
  return [
    'this machine has an NVIDIA GPU and TensorFlow does not see it: its library is for CPUs, or it wants other CUDA',
    'libraries than are here. Run npm run tensorflow:install -- --gpu, which brings its own;',
    'CUDA_VISIBLE_DEVICES=-1 makes it train on the CPU',
  ].join(' ');
}
