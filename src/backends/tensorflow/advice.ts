/** What `mod doctor` advises if TensorFlow does not start. */
import { hasNvidiaGpu } from './device.js';
import { INSTALL_COMMAND, PROJECT_FOLDER, packageFolder } from './package.js';
import { gatherFacts, missingFor } from './prerequisites.js';
import { CPU_DISTRIBUTION, GPU_DISTRIBUTION } from './wheels.js';

/** The install command for this machine, then a line for each prerequisite that is missing. */
export function installAdvice(): string[] {
  const gpu = hasNvidiaGpu();
  const missing = missingFor(
    gatherFacts(packageFolder() ?? PROJECT_FOLDER),
    gpu ? GPU_DISTRIBUTION : CPU_DISTRIBUTION,
  );
  return [gpu ? `${INSTALL_COMMAND} -- --gpu` : INSTALL_COMMAND, ...missing];
}
