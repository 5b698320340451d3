/** What `mod doctor` tells about TensorFlow: whether it computes here, why not, and what would have to be installed. */
import { messageOf } from '../../errors.js';
import { hasNvidiaGpu } from './device.js';
import { INSTALL_COMMAND, PROJECT_FOLDER, packageFolder } from './package.js';
import { gatherFacts, missingFor } from './prerequisites.js';
import { startTensorflow } from './start.js';
import { CPU_DISTRIBUTION, GPU_DISTRIBUTION } from './wheels.js';

export type TensorflowStatus =
  | { usable: true; computesOn: 'GPU' | 'CPU' }
  | {
      usable: false;
      why: string;
      /** The command that installs what this machine needs. */
      install: string;
      /** What that command would not find here, one line each; empty where it can run. */
      missing: string[];
    };

/** Tries it, which makes tensorflow the active backend where it works. */
export async function tensorflowStatus(): Promise<TensorflowStatus> {
  try {
    const { onGpu } = await startTensorflow();
    return { usable: true, computesOn: onGpu ? 'GPU' : 'CPU' };
  } catch (error) {
    const gpu = hasNvidiaGpu();
    return {
      usable: false,
      why: messageOf(error),
      install: gpu ? `${INSTALL_COMMAND} -- --gpu` : INSTALL_COMMAND,
      missing: missingFor(
        gatherFacts(packageFolder() ?? PROJECT_FOLDER),
        gpu ? GPU_DISTRIBUTION : CPU_DISTRIBUTION,
      ),
    };
  }
}
