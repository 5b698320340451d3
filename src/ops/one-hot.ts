/** One-hot rows for composed definitions: tfjs' own refuses a depth of one. */
import { cast, equal, expandDims, range, type Tensor } from '@tensorflow/tfjs-core';

/** ids [..] int32 → [.., depth]: 1 where the id is the column, all 0 for an id that is none. */
export function hotRows(ids: Tensor, depth: number, dtype: 'float32' | 'int32' = 'float32'): Tensor {
  return cast(equal(expandDims(ids, -1), range(0, depth, 1, 'int32')), dtype);
}
