/** A memory scope: tensors made inside are freed at its end unless returned or kept. */
import { Tensor, tidy } from '@tensorflow/tfjs-core';

/**
 * tfjs' tidy for any result type: it keeps tensors in plain objects and arrays, and allows null and undefined. tidy itself
 * visits every element of a result, of typed arrays too, which takes it longer than a batch of an evaluation.
 */
export function scope<T>(body: () => T): T {
  let result!: T;
  tidy(() => {
    result = body();
    const tensors: Tensor[] = [];
    collectTensors(result, tensors, new Set());
    return tensors;
  });
  return result;
}

/** Adds the tensors of a value, or of an array or object of values, to a list. */
function collectTensors(value: unknown, tensors: Tensor[], seen: Set<object>): void {
  if (typeof value !== 'object' || value === null || ArrayBuffer.isView(value) || seen.has(value)) return;
  seen.add(value);
  if (value instanceof Tensor) tensors.push(value);
  else for (const part of Object.values(value)) collectTensors(part, tensors, seen);
}
