/** The folder of @tensorflow/tfjs-node-gpu, and the file in it that selects the TensorFlow library. */
import { createHash } from 'node:crypto';
import { existsSync, readdirSync, readFileSync, realpathSync } from 'node:fs';
import { createRequire } from 'node:module';
import { basename, dirname, join } from 'node:path';

export const PACKAGE = '@tensorflow/tfjs-node-gpu';

/** The command that installs the package and its library. */
export const INSTALL_COMMAND = 'npm run tensorflow:install';

/** The project's folder, with package.json and the lock file. */
export const PROJECT_FOLDER = join(import.meta.dirname, '..', '..', '..');

/** The package's folder; null if npm removed the package, as it does after a failed download. */
export function packageFolder(): string | null {
  try {
    return dirname(createRequire(import.meta.url).resolve(`${PACKAGE}/package.json`));
  } catch {
    return null;
  }
}

/** The native binding that the package loads. */
export function bindingPath(folder: string): string {
  return join(folder, 'lib', 'napi-v8', 'tfjs_binding.node');
}

/** The file that the binding links to; null if there is none. */
export function installedBinding(folder: string): string | null {
  const path = bindingPath(folder);
  return existsSync(path) ? realpathSync(path) : null;
}

/** The C++ source of the project's own operations, which are compiled into the binding. */
export const OPERATIONS_FOLDER = join(import.meta.dirname, 'native');

/** An install's folder in the package's `deps`: its TensorFlow and eight digits of the hash of the operations' source. */
export function installName(distribution: string): string {
  const hash = createHash('sha256');
  for (const name of readdirSync(OPERATIONS_FOLDER).sort())
    hash.update(readFileSync(join(OPERATIONS_FOLDER, name)));
  return `${distribution}-${hash.digest('hex').slice(0, 8)}`;
}

/** Whether a binding was compiled from the current source of the project's operations. */
export function hasOperations(binding: string): boolean {
  return basename(dirname(binding)).endsWith(installName(''));
}
