/** The device that TensorFlow uses: on a machine with an NVIDIA GPU it must be the GPU. */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { INSTALL_COMMAND } from './package.js';

/** NVIDIA's driver has a folder here for each GPU. */
const GPUS = '/proc/driver/nvidia/gpus';

/**
 * Whether this machine has an NVIDIA GPU that this process may use. CUDA_VISIBLE_DEVICES set to -1 or to the empty string
 * hides all GPUs.
 */
export function hasNvidiaGpu(
  exists: (path: string) => boolean = existsSync,
  visible: string | undefined = process.env.CUDA_VISIBLE_DEVICES,
): boolean {
  if (visible !== undefined && ['', '-1'].includes(visible.trim())) return false;
  return exists('/dev/nvidia0') || exists(GPUS);
}

/** The name of the first GPU, from its driver. */
export function gpuName(): string {
  try {
    const [first] = readdirSync(GPUS) as [string];
    const information = readFileSync(join(GPUS, first, 'information'), 'utf8');
    return /^Model:\s*(.+)$/m.exec(information)?.[1] ?? 'NVIDIA GPU';
  } catch {
    return 'NVIDIA GPU';
  }
}

/** Why TensorFlow must not be used on this machine and what to do about it; null if it may be used. */
export function deviceProblem({
  machineHasGpu,
  onGpu,
}: {
  machineHasGpu: boolean;
  onGpu: boolean;
}): string | null {
  if (!machineHasGpu || onGpu) return null;
  return [
    'this machine has an NVIDIA GPU that TensorFlow cannot use: the installed library is for CPUs, or it did not find',
    `its CUDA libraries. Install the GPU build, which includes them, with \`${INSTALL_COMMAND} -- --gpu\`,`,
    'or set CUDA_VISIBLE_DEVICES=-1 to train on the CPU',
  ].join(' ');
}
