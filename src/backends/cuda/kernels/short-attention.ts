/** Rotary positions and attention of short sequences, fused, forward and backward: short-attention.cu. */
import type { CudaBackend } from '../backend.js';
import type { AttentionShape } from '../driver/attention-graph.js';
import type { Call } from '../driver/call.js';
import type { Address } from '../driver/driver.js';
import { address, float } from '../driver/kernel-library.js';
import type { Angles } from './rotary.js';

/** Head sizes that have a kernel. */
const SIZES = [64, 128];
/** Rows that a warp processes at once. */
const STRIP = 16;
/** Unused elements between two rows in shared memory. */
const PADDING = 8;
/** Blocks for sequences up to this length have four warps, so that more of them fit on a multiprocessor. */
const SHORT = 128;

type Pass = 'forward' | 'backward';

/** Bytes of shared memory: q, k and v; in the backward pass also dout and two numbers per row. */
function sharedBytes(pass: Pass, { n, size }: AttentionShape): number {
  const rows = STRIP * Math.ceil(n / STRIP);
  const matrix = 2 * rows * (size + PADDING);
  return pass === 'forward' ? 3 * matrix : 4 * matrix + 8 * rows;
}

/** Whether these kernels support a shape: in bf16, if a head of a sequence fits in a block's shared memory. */
export function supportsShortAttention(backend: CudaBackend, pass: Pass, shape: AttentionShape): boolean {
  const fits = sharedBytes(pass, shape) <= backend.driver.sharedMemory;
  return backend.activations === 'bfloat16' && SIZES.includes(shape.size) && fits;
}

/** Rotates q and k of qkv in place; writes out [B, n, H·K] and logSumExp [B, H, n]. */
export function shortAttention(
  call: Call,
  shape: AttentionShape,
  { table, positions }: Angles,
  [qkv, out, logSumExp]: [Address, Address, Address],
): void {
  launch(call, 'forward', shape, [qkv, table, positions, out, logSumExp]);
}

/** Computes dqkv from the rotated qkv, with dq and dk rotated back. */
export function shortAttentionGrad(
  call: Call,
  shape: AttentionShape,
  { table, positions }: Angles,
  [qkv, out, logSumExp, dout, dqkv]: [Address, Address, Address, Address, Address],
): void {
  launch(call, 'backward', shape, [qkv, table, positions, out, logSumExp, dout, dqkv]);
}

function launch(call: Call, pass: Pass, shape: AttentionShape, addresses: (Address | null)[]): void {
  const { batch, heads, n, size } = shape;
  const name = `shortAttention${pass === 'forward' ? '' : 'Grad'}${size}`;
  const block = n <= SHORT ? 128 : 256;
  call.launch('short-attention', name, { grid: batch * heads, block, shared: sharedBytes(pass, shape) }, [
    ...addresses.map(address),
    n,
    heads,
    float(1 / Math.sqrt(size)),
  ]);
}
