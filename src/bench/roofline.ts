/** Roofline time of the project's kernels on a device: the longer of FLOPs / peak FLOP/s and bytes / memory bandwidth. */
import type { Tensor } from '@tensorflow/tfjs-core';
import type { KernelCall } from '../ops/kernel.js';

/** A device's peak rates. */
export interface Peak {
  flopsPerSecond: number;
  bytesPerSecond: number;
}

/** Inputs of which only some rows are read: as many as the output has. */
const PARTLY_READ: Record<string, string> = { Embedding: 'table', GatherTokens: 'x' };
/** Inputs that may be updated in place: then only their `rows` are read and written. */
const UPDATED_IN_PLACE: Record<string, string> = {
  GatedScatterAdd: 'x',
  RoutedGatherGrad: 'gradAccum',
  ScatterTokens: 'gradAccum',
};
/** FLOPs of attention's products relative to the forward pass: backward recomputes the scores and adds four products. */
const ATTENTION: Record<string, number> = { RotaryAttention: 1, RotaryAttentionGrad: 2.5 };

/** Roofline time in milliseconds: every input is read once, every output written once, `bytesOf` gives the size of each. */
export function rooflineMs(call: KernelCall, bytesOf: (tensor: Tensor) => number, peak: Peak): number {
  const sum = (tensors: Tensor[]) => tensors.reduce((bytes, tensor) => bytes + bytesOf(tensor), 0);
  const target = call.inputs[UPDATED_IN_PLACE[call.kernelName] ?? ''];
  const inPlace = target !== undefined && target.dataId === call.outputs[0]?.dataId;
  const written = sum(inPlace ? [call.inputs.rows as Tensor] : call.outputs);
  const part = PARTLY_READ[call.kernelName];
  const read = Object.entries(call.inputs).flatMap(([name, tensor]) =>
    name === part || tensor === undefined
      ? []
      : inPlace && tensor === target
        ? [call.inputs.rows as Tensor]
        : [tensor],
  );
  const bytes = sum(read) + written + (part === undefined ? 0 : written);
  return 1000 * Math.max(productFlops(call) / peak.flopsPerSecond, bytes / peak.bytesPerSecond);
}

/** FLOPs of a kernel's matrix products; 0 if it has none. Attention's are halved: masked scores are not computed. */
export function productFlops({ kernelName, inputs, attrs, outputs }: KernelCall): number {
  const attention = ATTENTION[kernelName];
  if (attention !== undefined) {
    const [batch, n, width] = (inputs.qkv as Tensor).shape as [number, number, number];
    return attention * 2 * batch * n * n * (width / 3);
  }
  if (!/^(Grouped)?Linear/.test(kernelName)) return 0;
  // y [m, n] = a [m, k]·b [k, n]: the product of the three sizes is (m·n·k)², times experts³ for several experts.
  const { experts = 1 } = attrs as { experts?: number };
  const sizes = [...Object.values(inputs).slice(0, 2), outputs[0]].map((tensor) => tensor?.size ?? 0);
  return 2 * Math.sqrt(sizes.reduce((product, size) => product * size, 1) / experts);
}
