/** Where @tensorflow/tfjs-node-gpu lies, and the one file in it that decides which TensorFlow it runs on. */
import { createHash } from 'node:crypto';
import { existsSync, readdirSync, readFileSync, realpathSync } from 'node:fs';
import { createRequire } from 'node:module';
import { basename, dirname, join } from 'node:path';

export const PACKAGE = '@tensorflow/tfjs-node-gpu';

/** What people run where the package or its library is missing. */
export const INSTALL_COMMAND = 'npm run tensorflow:install';

/** The project's own folder: where its package.json and lock file are. */
export const PROJECT_FOLDER = join(import.meta.dirname, '..', '..', '..');

/** The package's folder; null where npm has dropped it, as it does when the package's own download fails. */
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

/** The file that stands behind the binding; null where there is none. */
export function installedBinding(folder: string): string | null {
  const path = bindingPath(folder);
  return existsSync(path) ? realpathSync(path) : null;
}

/** The C++ of the project's own operations, which is built into the binding. */
export const OPERATIONS_FOLDER = join(import.meta.dirname, 'native');

/** The folder in the package's `deps` of an install: its TensorFlow, and eight digits that stand for the operations. */
export function installName(distribution: string): string {
  const hash = createHash('sha256');
  for (const name of readdirSync(OPERATIONS_FOLDER).sort())
    hash.update(readFileSync(join(OPERATIONS_FOLDER, name)));
  return `${distribution}-${hash.digest('hex').slice(0, 8)}`;
}

/** Whether a binding was built with the project's operations as they are now. */
export function hasOperations(binding: string): boolean {
  return basename(dirname(binding)).endsWith(installName(''));
}
