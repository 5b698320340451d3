/** A memory scope: tensors made inside are freed at its end unless returned or kept. */
import { tidy } from '@tensorflow/tfjs-core';

/** tfjs' tidy for any result type: it keeps tensors in plain objects and arrays, and allows null and undefined. */
export function scope<T>(body: () => T): T {
  return tidy(body as () => never) as T;
}
