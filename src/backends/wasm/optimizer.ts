/** AdamW and the global norm on wasm: one pass over each parameter. */
import { adamWKernel, CLIP_EPSILON } from '../../ops/adamw.js';
import { globalNormKernel } from '../../ops/global-norm.js';
import { wasmKernel } from './heap.js';

const globalNorm = wasmKernel(globalNormKernel, (heap, gradients) => {
  const norm = heap.make([]);
  let squares = 0;
  for (const gradient of Object.values(gradients)) {
    const values = heap.floats(gradient);
    for (let i = 0; i < values.length; i++) squares += (values[i] as number) * (values[i] as number);
  }
  heap.floats(norm)[0] = Math.sqrt(squares);
  return [norm];
});

const adamW = wasmKernel(
  adamWKernel,
  (heap, inputs, { beta1, beta2, epsilon, weightDecay, rateFactor, maxNorm }) => {
    const norm = heap.floats(inputs.norm)[0] as number;
    if (!Number.isFinite(norm)) {
      return [heap.reuse(inputs.value), heap.reuse(inputs.mean), heap.reuse(inputs.variance)];
    }
    // The value is a new tensor, since products cache the packed form of the old one. The moments are updated in place.
    const updated = heap.make(inputs.value.shape);
    const [value, next, grad] = [heap.floats(inputs.value), heap.floats(updated), heap.floats(inputs.grad)];
    const [mu, nu] = [heap.floats(inputs.mean), heap.floats(inputs.variance)];
    const [scheduled, correction1, correction2] = heap.floats(inputs.schedule) as unknown as [
      number,
      number,
      number,
    ];
    const clip = maxNorm > 0 ? Math.min(1, maxNorm / (norm + CLIP_EPSILON)) : 1;
    const rate = scheduled * rateFactor;
    const keep = 1 - rate * weightDecay;
    for (let i = 0; i < next.length; i++) {
      const gradient = (grad[i] as number) * clip;
      const m = beta1 * (mu[i] as number) + (1 - beta1) * gradient;
      const v = beta2 * (nu[i] as number) + (1 - beta2) * gradient * gradient;
      mu[i] = m;
      nu[i] = v;
      const step = m / correction1 / (Math.sqrt(v / correction2) + epsilon);
      next[i] = (value[i] as number) * keep - rate * step;
    }
    return [updated, heap.reuse(inputs.mean), heap.reuse(inputs.variance)];
  },
);

export const optimizerKernels = [globalNorm, adamW];
