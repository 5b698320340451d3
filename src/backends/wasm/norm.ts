/** RmsNorm on wasm: one pass over the rows; the composed definition takes a pass for each operation. */
import { addRmsNormKernel, RMS_NORM_EPSILON, rmsNormGradKernel, rmsNormKernel } from '../../ops/rms-norm.js';
import { wasmKernel } from './heap.js';

const rmsNorm = wasmKernel(rmsNormKernel, (heap, { x, gain }) => {
  const y = heap.make(x.shape);
  const inverseRms = heap.make(x.shape.slice(0, -1));
  normalise(heap.floats(x), heap.floats(gain), heap.floats(y), heap.floats(inverseRms));
  return [y, inverseRms];
});

const addRmsNorm = wasmKernel(addRmsNormKernel, (heap, { x, branch, gain }) => {
  const [sum, y] = [heap.make(x.shape), heap.make(x.shape)];
  const inverseRms = heap.make(x.shape.slice(0, -1));
  const [a, b, total] = [heap.floats(x), heap.floats(branch), heap.floats(sum)];
  for (let i = 0; i < total.length; i++) total[i] = (a[i] as number) + (b[i] as number);
  normalise(total, heap.floats(gain), heap.floats(y), heap.floats(inverseRms));
  return [sum, y, inverseRms];
});

const rmsNormGrad = wasmKernel(rmsNormGradKernel, (heap, { dy, x, gain, inverseRms, gradAccum }) => {
  const dx = gradAccum === undefined ? heap.make(x.shape) : heap.reuse(gradAccum);
  const dgain = heap.make(gain.shape);
  if (gradAccum === undefined) heap.floats(dx).fill(0);
  const sums = addNormGradient(
    heap.floats(dy),
    heap.floats(x),
    heap.floats(gain),
    heap.floats(inverseRms),
    heap.floats(dx),
  );
  heap.floats(dgain).set(sums);
  return [dx, dgain];
});

function normalise(x: Float32Array, gain: Float32Array, y: Float32Array, inverseRms: Float32Array): void {
  const width = gain.length;
  for (let row = 0; row < inverseRms.length; row++) {
    const first = row * width;
    let squares = 0;
    for (let i = first; i < first + width; i++) squares += (x[i] as number) * (x[i] as number);
    const scale = 1 / Math.sqrt(squares / width + RMS_NORM_EPSILON);
    inverseRms[row] = scale;
    for (let d = 0; d < width; d++) y[first + d] = (x[first + d] as number) * scale * (gain[d] as number);
  }
}

/** Adds to dx and returns the gradient of the gain; formulas at RmsNormGrad. */
function addNormGradient(
  dy: Float32Array,
  x: Float32Array,
  gain: Float32Array,
  inverseRms: Float32Array,
  dx: Float32Array,
): Float64Array {
  const width = gain.length;
  const dgain = new Float64Array(width);
  for (let row = 0; row < inverseRms.length; row++) {
    const first = row * width;
    const scale = inverseRms[row] as number;
    let projection = 0;
    for (let d = 0; d < width; d++) {
      const product = (dy[first + d] as number) * (x[first + d] as number);
      projection += product * (gain[d] as number);
      dgain[d] = (dgain[d] as number) + product * scale;
    }
    const along = (projection * scale * scale) / width;
    for (let d = 0; d < width; d++) {
      const i = first + d;
      const direct = (gain[d] as number) * (dy[i] as number) - (x[i] as number) * along;
      dx[i] = (dx[i] as number) + scale * direct;
    }
  }
  return dgain;
}

export const normKernels = [rmsNorm, addRmsNorm, rmsNormGrad];
