/** A memory scope: what is made inside is freed at its end, unless it is returned or kept. */
import { tidy } from '@tensorflow/tfjs-core';

/** tfjs' tidy for results of any shape: tensors in plain objects and arrays are found, null and undefined allowed. */
export function scope<T>(body: () => T): T {
  return tidy(body as () => never) as T;
}
