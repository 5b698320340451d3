/** What people are told to do where TensorFlow does not compute. */
import { hasNvidiaGpu } from './device.js';
import { INSTALL_COMMAND, PROJECT_FOLDER, packageFolder } from './package.js';
import { gatherFacts, missingFor } from './prerequisites.js';
import { CPU_DISTRIBUTION, GPU_DISTRIBUTION } from './wheels.js';

/** The command that installs what this machine needs, and a line for each thing that it would not find here. */
export function installAdvice(): string[] {
  const gpu = hasNvidiaGpu();
  const missing = missingFor(
    gatherFacts(packageFolder() ?? PROJECT_FOLDER),
    gpu ? GPU_DISTRIBUTION : CPU_DISTRIBUTION,
  );
  return [gpu ? `${INSTALL_COMMAND} -- --gpu` : INSTALL_COMMAND, ...missing];
}
