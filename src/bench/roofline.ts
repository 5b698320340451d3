/** The least that a kernel of the project can take on a device: its FLOPs at the device's rate, or its bytes at its memory's. */
import type { Tensor } from '@tensorflow/tfjs-core';
import type { KernelCall } from '../ops/kernel.js';

/** What a device could do at most. */
export interface Peak {
  flopsPerSecond: number;
  bytesPerSecond: number;
}

/** Inputs of which only as many rows are read as come out. */
const READ_IN_PART: Record<string, string> = { Embedding: 'table', GatherTokens: 'x' };
/** Inputs that the output may take the place of: then only `rows` of them are read and written. */
const WRITTEN_OVER: Record<string, string> = {
  GatedScatterAdd: 'x',
  RoutedGatherGrad: 'gradAccum',
  ScatterTokens: 'gradAccum',
};
/** FLOPs of attention's products by what the forward pass has: backward makes the scores again and four products more. */
const ATTENTION: Record<string, number> = { RotaryAttention: 1, RotaryAttentionGrad: 2.5 };

/** Milliseconds; every input is read once and every output written once, `bytesOf` each. */
export function leastMs(call: KernelCall, bytesOf: (tensor: Tensor) => number, peak: Peak): number {
  const sum = (tensors: Tensor[]) => tensors.reduce((bytes, tensor) => bytes + bytesOf(tensor), 0);
  const under = call.inputs[WRITTEN_OVER[call.kernelName] ?? ''];
  const inPlace = under !== undefined && under.dataId === call.outputs[0]?.dataId;
  const written = sum(inPlace ? [call.inputs.rows as Tensor] : call.outputs);
  const part = READ_IN_PART[call.kernelName];
  const whole = Object.entries(call.inputs).flatMap(([name, tensor]) =>
    name === part || tensor === undefined
      ? []
      : inPlace && tensor === under
        ? [call.inputs.rows as Tensor]
        : [tensor],
  );
  const bytes = sum(whole) + written + (part === undefined ? 0 : written);
  return 1000 * Math.max(productFlops(call) / peak.flopsPerSecond, bytes / peak.bytesPerSecond);
}

/** FLOPs of a kernel's matrix products; 0 where it has none. Attention's are halved: nobody computes what is masked. */
export function productFlops({ kernelName, inputs, attrs, outputs }: KernelCall): number {
  const attention = ATTENTION[kernelName];
  if (attention !== undefined) {
    const [batch, n, width] = (inputs.qkv as Tensor).shape as [number, number, number];
    return attention * 2 * batch * n * n * (width / 3);
  }
  if (!/^(Grouped)?Linear/.test(kernelName)) return 0;
  // y [m, n] = a [m, k]·b [k, n]: the three sizes' product is (m·n·k)², times experts³ where there are several.
  const { experts = 1 } = attrs as { experts?: number };
  const sizes = [...Object.values(inputs).slice(0, 2), outputs[0]].map((tensor) => tensor?.size ?? 0);
  return 2 * Math.sqrt(sizes.reduce((product, size) => product * size, 1) / experts);
}
