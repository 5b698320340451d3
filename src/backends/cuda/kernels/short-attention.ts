/** Rotary positions and attention of short sequences in one pass each way: kernels/short-attention.cu. */

import type { CudaBackend } from '../backend.js';
import type { AttentionShape } from '../driver/attention-graph.js';
import type { Call } from '../driver/call.js';
import type { Address } from '../driver/driver.js';
import { address, float } from '../driver/kernel-library.js';
import type { Angles } from './rotary.js';

/** Head sizes that there are kernels for. */
const SIZES = [64, 128];
/** Rows that a warp takes at once. */
const STRIP = 16;
/** Elements between the ends of two rows in shared memory. */
const PADDING = 8;
/** Up to this length four warps have enough to do, and more blocks fit beside each other. */
const FEW_WARPS = 128;

type Pass = 'forward' | 'backward';

/** Bytes of shared memory: q, k and v, of the backward pass dout too, and two numbers a row. */
function sharedBytes(pass: Pass, { n, size }: AttentionShape): number {
  const rows = STRIP * Math.ceil(n / STRIP);
  const matrix = 2 * rows * (size + PADDING);
  return pass === 'forward' ? 3 * matrix : 4 * matrix + 8 * rows;
}

/** Whether a head of a sequence fits in a block. */
export function shortTakes(backend: CudaBackend, pass: Pass, shape: AttentionShape): boolean {
  const fits = sharedBytes(pass, shape) <= backend.driver.sharedMemory;
  return backend.activations === 'bfloat16' && SIZES.includes(shape.size) && fits;
}

/** Turns q and k of qkv in place; out [B, n, H·K], logSumExp [B, H, n]. */
export function shortAttention(
  call: Call,
  shape: AttentionShape,
  { table, positions }: Angles,
  [qkv, out, logSumExp]: [Address, Address, Address],
): void {
  launch(call, 'forward', shape, [qkv, table, positions, out, logSumExp]);
}

/** From turned rows qkv to their gradients, q's and k's turned back. */
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
  const block = n <= FEW_WARPS ? 128 : 256;
  call.launch('short-attention', name, { grid: batch * heads, block, shared: sharedBytes(pass, shape) }, [
    ...addresses.map(address),
    n,
    heads,
    float(1 / Math.sqrt(size)),
  ]);
}
