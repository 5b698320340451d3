/** Causal attention by cuDNN or by the kernels of attention.cu; packed sequences, and one new token over a cache. */
import type { Tensor } from '@tensorflow/tfjs-core';
import {
  causalAttentionGradKernel,
  causalAttentionKernel,
  varlenAttentionKernel,
} from '../../../ops/causal-attention.js';
import { decodeAttentionKernel } from '../../../ops/decode-attention.js';
import { prefillCacheKernel } from '../../../ops/prefill-cache.js';
import type { CudaBackend } from '../backend.js';
import { type AttentionShape, TENSOR } from '../driver/attention-graph.js';
import type { AttentionPass } from '../driver/attention-plans.js';
import { type Call, cudaKernel } from '../driver/call.js';
import type { Address } from '../driver/driver.js';
import { address, float } from '../driver/kernel-library.js';
import { BYTES_PER_ELEMENT } from '../driver/storage.js';
import { THREADS, warpRows } from './launch-shapes.js';
import { stridedCopy } from './strided-copy.js';

/** Rows per block, as in attention.cu. */
const TILE = 32;
const LARGEST_HEAD = 256;
/** Keys whose scores a block of cached attention keeps at once: 16 KiB of shared memory. */
const MOST_SCORES = 4096;
/** Up to this length cuDNN's deterministic backward pass is the faster one, and its workspace is small. */
const SHORT = 256;
/** cuDNN's deterministic backward pass has a workspace of this many bytes for each score [B, H, n, n]. */
const SCORE_BYTES = 2;
/** Bytes of that workspace up to which sequences share a call, and above which a sequence takes the kernels of attention.cu. */
const SHARED_WORKSPACE = 2 ** 30;
const LARGEST_WORKSPACE = 2 ** 32;

const causalAttention = cudaKernel(causalAttentionKernel, (call, { qkv }, { heads }) => {
  const shape = attentionShape(qkv, heads);
  const [out, logSumExp] = attentionOutputs(call, shape);
  attend(call, shape, [call.activation(qkv), call.at(out), call.at(logSumExp)]);
  return [out, logSumExp];
});

const causalAttentionGrad = cudaKernel(
  causalAttentionGradKernel,
  (call, { qkv, out, logSumExp, dout }, { heads }) => {
    const dqkv = call.makeActivation(qkv.shape);
    attendGrad(call, attentionShape(qkv, heads), {
      qkv: call.activation(qkv),
      out: call.activation(out),
      logSumExp: call.float(logSumExp),
      dout: call.activation(dout),
      dqkv: call.at(dqkv),
    });
    return [dqkv];
  },
);

/** Causal attention within each of the packed sequences. */
const varlenAttention = cudaKernel(varlenAttentionKernel, (call, { qkv }, { heads, lengths }) => {
  const { size } = attentionShape(qkv, heads);
  const out = call.makeActivation([1, qkv.shape[1] as number, heads * size]);
  let next = 0;
  const starts = lengths.map((length) => {
    next += length;
    return next - length;
  });
  const table = call.upload(Int32Array.of(...starts, ...lengths));
  const tiles = Math.ceil(Math.max(...lengths) / TILE);
  const shared = forwardShared(size);
  checkHeadSize(call, size, shared);
  const grid = [lengths.length * heads, tiles, 1] as const;
  call.launch('attention', 'attentionSegments', { grid, block: THREADS, shared }, [
    address(call.activation(qkv)),
    address(call.at(out)),
    address(table),
    address(table + 4 * lengths.length),
    heads,
    size,
    float(1 / Math.sqrt(size)),
  ]);
  return [out];
});

/** Keys and values of packed sequences, copied into a cache [S, L, 2·D]; the rest is 0. */
const prefillCache = cudaKernel(prefillCacheKernel, (call, { qkv }, { lengths, slots }) => {
  const { activations, driver } = call.backend;
  const width = qkv.shape[2] as number;
  const D = width / 3;
  const cache = call.make([lengths.length, slots, 2 * D], activations);
  driver.zero(call.at(cache), cache.size * BYTES_PER_ELEMENT[activations]);
  const [from, to] = [call.activation(qkv), call.at(cache)];
  let start = 0;
  lengths.forEach((length, i) => {
    const source = { at: from, first: start * width + D, strides: [width, 1] };
    const target = { at: to, first: i * slots * 2 * D, strides: [2 * D, 1] };
    stridedCopy(call, activations, source, target, [length, 2 * D]);
    start += length;
  });
  return [cache];
});

/** Appends the new token's key and value to the cache, then attends to the whole cache. */
const decodeAttention = cudaKernel(
  decodeAttentionKernel,
  (call, { qkv, cache, rows, lengths }, { heads }) => {
    const { size } = attentionShape(qkv, heads);
    const slots = cache.shape[1] as number;
    const out = call.makeActivation([1, rows.size, heads * size]);
    const next = call.reuse(cache, call.backend.activations);
    const grid = [rows.size, heads, 1] as const;
    const most = Math.min(slots, MOST_SCORES);
    call.launch('attention', 'attentionCached', { grid, block: THREADS, shared: 4 * most }, [
      address(call.activation(qkv)),
      address(call.at(next)),
      address(call.int(rows)),
      address(call.int(lengths)),
      address(call.at(out)),
      slots,
      most,
      heads,
      size,
      float(1 / Math.sqrt(size)),
    ]);
    return [out, next];
  },
);

export const attentionKernels = [
  causalAttention,
  causalAttentionGrad,
  varlenAttention,
  prefillCache,
  decodeAttention,
];

const INPUTS = [TENSOR.q, TENSOR.k, TENSOR.v];
const GRADIENTS = [TENSOR.dq, TENSOR.dk, TENSOR.dv];

/** The attention shape of packed rows [B, n, 3·H·K]. */
export function attentionShape(qkv: Tensor, heads: number): AttentionShape {
  const [batch, n, width] = qkv.shape as [number, number, number];
  return { batch, heads, n, size: width / 3 / heads };
}

/** Whether cuDNN computes attention of this shape: in bf16 only. */
function usesCudnn(backend: CudaBackend, shape: AttentionShape): boolean {
  return backend.activations === 'bfloat16' && backend.attentionPlans.supports(shape);
}

/** Addresses of q, k and v in packed rows [B, n, 3, H, K] of bf16, by tensor id. */
function packed(
  at: Address,
  { heads, size }: AttentionShape,
  ids: readonly number[],
): (readonly [id: number, at: Address])[] {
  return ids.map((id, i) => [id, at + 2 * i * heads * size] as const);
}

/** New tensors for the outputs of attention: out [B, n, H·K], logSumExp [B, H, n]. */
export function attentionOutputs(
  call: Call,
  { batch, heads, n, size }: AttentionShape,
): [out: Tensor, logSumExp: Tensor] {
  return [call.makeActivation([batch, n, heads * size]), call.make([batch, heads, n], 'float32')];
}

/** Attention of rotated rows: writes out [B, n, H·K] and logSumExp [B, H, n]. */
export function attend(
  call: Call,
  shape: AttentionShape,
  [qkv, out, logSumExp]: [Address, Address, Address],
): void {
  if (usesCudnn(call.backend, shape)) {
    const outputs = [
      [TENSOR.out, out],
      [TENSOR.logSumExp, logSumExp],
    ] as const;
    execute(call, 'forward', shape, [...packed(qkv, shape, INPUTS), ...outputs]);
  } else {
    launchOwn(call, 'attention', shape, forwardShared(shape.size), [qkv, out, logSumExp]);
  }
}

export interface GradAddresses {
  qkv: Address;
  out: Address;
  logSumExp: Address;
  dout: Address;
  dqkv: Address;
}

/** Computes the gradients of rotated rows. */
export function attendGrad(call: Call, shape: AttentionShape, at: GradAddresses): void {
  const { batch, heads, n, size } = shape;
  const delta = call.scratch(4 * batch * heads * n);
  if (!usesCudnn(call.backend, shape)) {
    ownGrad(call, shape, at, delta);
  } else if (!call.backend.deterministic && n > SHORT) {
    const dqSum = call.scratch(4 * batch * heads * n * size);
    cudnnGrad(call, 'backward', shape, at, [[TENSOR.delta, delta] as const, [TENSOR.dqSum, dqSum] as const]);
  } else {
    deterministicGrad(call, shape, at, delta);
  }
}

/**
 * cuDNN's deterministic pass on as many sequences at once as it may have memory for, since its workspace grows with n²; the
 * kernels of attention.cu, which are slower and need none, if a single sequence is too long. Sequences are independent.
 */
function deterministicGrad(call: Call, shape: AttentionShape, at: GradAddresses, delta: Address): void {
  const { batch, heads, n, size } = shape;
  // cuDNN's tensors are aligned to 16 bytes, those of one float32 per row too.
  const step = (heads * n) % 4 === 0 ? 1 : 4;
  const ofStep = SCORE_BYTES * step * heads * n * n;
  if (ofStep > LARGEST_WORKSPACE) {
    ownGrad(call, shape, at, delta);
    return;
  }
  const atOnce = step * Math.max(1, Math.floor(SHARED_WORKSPACE / ofStep));
  for (let first = 0; first < batch; first += atOnce) {
    const part = { ...shape, batch: Math.min(atOnce, batch - first) };
    const merged = 2 * first * n * heads * size; // bytes before the part in bf16 [B, n, H, K]
    const rows = 4 * first * heads * n; // and in float32 [B, H, n]
    const addresses: GradAddresses = {
      qkv: at.qkv + 3 * merged,
      out: at.out + merged,
      logSumExp: at.logSumExp + rows,
      dout: at.dout + merged,
      dqkv: at.dqkv + 3 * merged,
    };
    cudnnGrad(call, 'deterministic backward', part, addresses, [[TENSOR.delta, delta + rows] as const]);
  }
}

function cudnnGrad(
  call: Call,
  pass: AttentionPass,
  shape: AttentionShape,
  at: GradAddresses,
  scratch: readonly (readonly [id: number, at: Address])[],
): void {
  execute(call, pass, shape, [
    ...packed(at.qkv, shape, INPUTS),
    ...packed(at.dqkv, shape, GRADIENTS),
    [TENSOR.out, at.out],
    [TENSOR.dout, at.dout],
    [TENSOR.logSumExp, at.logSumExp],
    ...scratch,
  ]);
}

/** The gradients by attention.cu; `delta` is memory for one number per row. */
function ownGrad(call: Call, shape: AttentionShape, at: GradAddresses, delta: Address): void {
  const { batch, heads, n, size } = shape;
  const rows = batch * n * heads;
  const args = [address(at.dout), address(at.out), address(delta), n, heads, size, rows];
  call.launch('attention', 'attentionDelta', warpRows(rows), args);
  const tiles = 4 * TILE * (size + 1);
  const addresses = [at.qkv, at.dout, at.logSumExp, delta, at.dqkv];
  launchOwn(call, 'attentionGradQuery', shape, 4 * (tiles + TILE * (TILE + 1)), addresses);
  launchOwn(call, 'attentionGradKeyValue', shape, 4 * (tiles + 2 * TILE * (TILE + 1)), addresses);
}

/** Runs cuDNN's plan for a pass. */
function execute(
  call: Call,
  pass: AttentionPass,
  shape: AttentionShape,
  tensors: (readonly [id: number, at: Address])[],
): void {
  const { attentionPlans, cudnn, device } = call.backend;
  const plan = attentionPlans.plan(pass, shape);
  // Freed at once: passes over parts of a batch, later in the stream, use the same workspace.
  const workspace = plan.workspaceBytes > 0 ? device.allocate(plan.workspaceBytes) : null;
  try {
    const scalars = attentionPlans.scalars(pass, shape.size);
    cudnn.execute(plan, [...tensors, ...scalars], workspace?.address ?? 0);
  } finally {
    if (workspace !== null) device.release(workspace);
  }
  call.backend.settle('attention');
}

/** Launches a kernel of attention.cu: one block for each tile of rows of a head. */
function launchOwn(
  call: Call,
  name: string,
  { batch, heads, n, size }: AttentionShape,
  shared: number,
  addresses: Address[],
): void {
  checkHeadSize(call, size, shared);
  const grid = [batch * heads, Math.ceil(n / TILE), 1] as const;
  call.launch('attention', name, { grid, block: THREADS, shared }, [
    ...addresses.map(address),
    n,
    heads,
    size,
    float(1 / Math.sqrt(size)),
  ]);
}

/** Bytes of shared memory of a forward block: a tile of queries, one of keys or values, and their weights. */
function forwardShared(size: number): number {
  return 4 * (2 * TILE * (size + 1) + TILE * (TILE + 1));
}

function checkHeadSize({ backend }: Call, size: number, shared: number): void {
  if (size > LARGEST_HEAD || shared > backend.driver.sharedMemory)
    throw new Error(`attention heads of size ${size} are too large for this GPU in ${backend.activations}`);
}
