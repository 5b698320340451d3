/** Random values for measurements: a few, repeated, since drawing billions of them takes minutes. */
import type { TensorSource } from '../model/parameters.js';

/** Number of values drawn for a large tensor: a prime, so that no two rows are equal. */
const DRAWN = 65521;

/** Repeats a source's first values: enough for timing. */
export function repeatingValues(source: TensorSource): TensorSource {
  return (spec) => {
    const size = spec.shape.reduce((a, b) => a * b, 1);
    if (size <= DRAWN) return source(spec);
    const drawn = source({ ...spec, shape: [DRAWN] });
    const values = new Float32Array(size);
    for (let at = 0; at < size; at += DRAWN) values.set(drawn.subarray(0, size - at), at);
    return values;
  };
}
