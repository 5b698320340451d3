/** One-hot rows for composed definitions: tfjs' own oneHot rejects a depth of 1. */
import { cast, equal, expandDims, range, type Tensor } from '@tensorflow/tfjs-core';

/** ids [..] int32 → [.., depth]: 1 in the column of the id; all 0 for an id outside 0..depth-1. */
export function oneHot(ids: Tensor, depth: number, dtype: 'float32' | 'int32' = 'float32'): Tensor {
  return cast(equal(expandDims(ids, -1), range(0, depth, 1, 'int32')), dtype);
}
