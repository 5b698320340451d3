/** Rotary positions and attention: as separate kernels or, for short sequences, fused, whichever is measured to be faster. */
import { rotaryAttentionGradKernel, rotaryAttentionKernel } from '../../../ops/rotary-attention.js';
import type { CudaBackend } from '../backend.js';
import type { AttentionShape } from '../driver/attention-graph.js';
import { cudaKernel } from '../driver/call.js';
import type { Address } from '../driver/driver.js';
import { BYTES_PER_ELEMENT } from '../driver/storage.js';
import { attend, attendGrad, attentionOutputs, attentionShape, type GradAddresses } from './attention.js';
import { anglesOf, rotate } from './rotary.js';
import { shortAttention, shortAttentionGrad, supportsShortAttention } from './short-attention.js';

const rotaryAttention = cudaKernel(rotaryAttentionKernel, (call, { qkv, ...where }, { heads }) => {
  const { backend } = call;
  const shape = attentionShape(qkv, heads);
  const angles = anglesOf(call, where);
  const rotated = call.reuse(qkv, backend.activations);
  const [out, logSumExp] = attentionOutputs(call, shape);
  const separate = (rows: Address) => {
    rotate(call, rows, shape, angles, 1);
    attend(call, shape, [rows, call.at(out), call.at(logSumExp)]);
  };
  const fused = (rows: Address) =>
    shortAttention(call, shape, angles, [rows, call.at(out), call.at(logSumExp)]);
  const variants = supportsShortAttention(backend, 'forward', shape) ? [separate, fused] : [separate];
  // Rows are rotated in place and must be rotated only once, so measurements run on other memory.
  let scratch: Address | null = null;
  const measured = variants.map((variant) => () => {
    scratch ??= call.scratch(rotated.size * BYTES_PER_ELEMENT[backend.activations]);
    variant(scratch);
  });
  variants[fastestOf(backend, 'attention', shape, measured)]?.(call.at(rotated));
  return [out, rotated, logSumExp];
});

const rotaryAttentionGrad = cudaKernel(rotaryAttentionGradKernel, (call, inputs, { heads }) => {
  const { qkv, out, logSumExp, dout } = inputs;
  const shape = attentionShape(qkv, heads);
  const angles = anglesOf(call, inputs);
  const dqkv = call.makeActivation(qkv.shape);
  const at: GradAddresses = {
    qkv: call.activation(qkv),
    out: call.activation(out),
    logSumExp: call.float(logSumExp),
    dout: call.activation(dout),
    dqkv: call.at(dqkv),
  };
  const separate = () => {
    attendGrad(call, shape, at);
    rotate(call, at.dqkv, shape, angles, -1);
  };
  const fused = () =>
    shortAttentionGrad(call, shape, angles, [at.qkv, at.out, at.logSumExp, at.dout, at.dqkv]);
  const variants = supportsShortAttention(call.backend, 'backward', shape) ? [separate, fused] : [separate];
  variants[fastestOf(call.backend, 'gradient of attention', shape, variants)]?.();
  return [dqkv];
});

export const rotaryAttentionKernels = [rotaryAttention, rotaryAttentionGrad];

/** Index of the fastest variant; 0, the separate kernels, if nothing may be measured. */
function fastestOf(
  { cublas }: CudaBackend,
  what: string,
  { batch, heads, n, size }: AttentionShape,
  variants: (() => void)[],
): number {
  if (variants.length === 1) return 0;
  return (
    cublas
      .tuning()
      ?.fastestVariant(`${what} [${batch},${heads},${n},${size}], separate or fused`, variants) ?? 0
  );
}
