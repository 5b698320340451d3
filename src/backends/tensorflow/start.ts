/** Starts @tensorflow/tfjs-node-gpu, an optional dependency: its native library comes from a download that may fail. */
import { createRequire } from 'node:module';
import util from 'node:util';
import { getBackend, ready, setBackend } from '@tensorflow/tfjs-core';
import { messageOf } from '../../errors.js';

const PACKAGE = '@tensorflow/tfjs-node-gpu';
const TENSORFLOW = 'tensorflow';

/** Makes tensorflow the active backend; throws, saying why, where the package or its library is missing. */
export async function startTensorflow(): Promise<void> {
  supplyRemovedUtilities();
  try {
    createRequire(import.meta.url)(PACKAGE);
  } catch (error) {
    const [firstLine] = messageOf(error).split('\n');
    throw new Error(`${PACKAGE} is not usable: ${firstLine}`);
  }
  await setBackend(TENSORFLOW);
  await ready();
  if (getBackend() !== TENSORFLOW) throw new Error(`${PACKAGE} was loaded, but its backend did not start`);
}

/** The package calls functions that Node 23 removed from `util`. */
function supplyRemovedUtilities(): void {
  const old = util as unknown as Record<string, unknown>;
  old.isNullOrUndefined ??= (value: unknown) => value === null || value === undefined;
  old.isArray ??= Array.isArray;
}
