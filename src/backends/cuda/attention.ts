/** Rotary and attention on cuda: positions turned in place, then attention by cuDNN or by the project's own kernels, or both at once. */
import type { Tensor } from '@tensorflow/tfjs-core';
import {
  causalAttentionGradKernel,
  causalAttentionKernel,
  varlenAttentionKernel,
} from '../../ops/causal-attention.js';
import { decodeAttentionKernel } from '../../ops/decode-attention.js';
import { prefillCacheKernel } from '../../ops/prefill-cache.js';
import { rotaryGradKernel, rotaryKernel } from '../../ops/rotary.js';
import { rotaryAttentionGradKernel, rotaryAttentionKernel } from '../../ops/rotary-attention.js';
import { type AttentionShape, TENSOR } from './attention-graph.js';
import { type AttentionPlans, cudnnTakes } from './attention-plans.js';
import { BYTES_PER_ELEMENT, type CudaBackend } from './backend.js';
import { type Call, registerCudaKernel } from './call.js';
import type { Address } from './driver.js';
import { vectorOf, warpRows } from './elementwise.js';
import { address, float } from './kernels.js';
import { type Angles, shortAttention, shortAttentionGrad, shortTakes } from './short-attention.js';
import { stridedCopy } from './strided-copy.js';

const THREADS = 256;
/** Rows of a block, as kernels/attention.cu has it. */
const TILE = 32;
const LARGEST_OWN_HEAD = 256;
/** Up to this length cuDNN's deterministic backward pass is the faster one, and its workspace small. */
const SHORT = 256;

export function registerAttention(plans: AttentionPlans): void {
  registerCudaKernel(rotaryKernel, (call, { qkv, ...where }) => {
    const turned = call.reuse(qkv, call.backend.activations);
    turn(call, call.at(turned), shapeOf(qkv, headsOf(qkv, where.table)), anglesOf(call, where), 1);
    return [turned];
  });
  registerCudaKernel(rotaryGradKernel, (call, { dqkv, ...where }) => {
    const turned = call.reuse(dqkv, call.backend.activations);
    turn(call, call.at(turned), shapeOf(dqkv, headsOf(dqkv, where.table)), anglesOf(call, where), -1);
    return [turned];
  });

  registerCudaKernel(causalAttentionKernel, (call, { qkv }, { heads }) => {
    const shape = shapeOf(qkv, heads);
    const [out, logSumExp] = outputsOf(call, shape);
    attend(call, plans, shape, [call.activation(qkv), call.at(out), call.at(logSumExp)]);
    return [out, logSumExp];
  });

  registerCudaKernel(causalAttentionGradKernel, (call, { qkv, out, logSumExp, dout }, { heads }) => {
    const dqkv = call.makeActivation(qkv.shape);
    attendGrad(call, plans, shapeOf(qkv, heads), {
      qkv: call.activation(qkv),
      out: call.activation(out),
      logSumExp: call.float(logSumExp),
      dout: call.activation(dout),
      dqkv: call.at(dqkv),
    });
    return [dqkv];
  });

  registerCudaKernel(rotaryAttentionKernel, (call, { qkv, ...where }, { heads }) => {
    const { backend } = call;
    const shape = shapeOf(qkv, heads);
    const angles = anglesOf(call, where);
    const turned = call.reuse(qkv, backend.activations);
    const [out, logSumExp] = outputsOf(call, shape);
    const apart = (rows: Address) => {
      turn(call, rows, shape, angles, 1);
      attend(call, plans, shape, [rows, call.at(out), call.at(logSumExp)]);
    };
    const together = (rows: Address) =>
      shortAttention(call, shape, angles, [rows, call.at(out), call.at(logSumExp)]);
    const ways = shortTakes(backend, 'forward', shape) ? [apart, together] : [apart];
    // Rows are turned in place, which is not to be done once more for every measurement.
    let others: Address | null = null;
    const measured = ways.map((way) => () => {
      others ??= call.scratch(turned.size * BYTES_PER_ELEMENT[backend.activations]);
      way(others);
    });
    ways[quickest(backend, 'attention', shape, measured)]?.(call.at(turned));
    return [out, turned, logSumExp];
  });

  registerCudaKernel(rotaryAttentionGradKernel, (call, inputs, { heads }) => {
    const { qkv, out, logSumExp, dout } = inputs;
    const shape = shapeOf(qkv, heads);
    const angles = anglesOf(call, inputs);
    const dqkv = call.makeActivation(qkv.shape);
    const at: GradAddresses = {
      qkv: call.activation(qkv),
      out: call.activation(out),
      logSumExp: call.float(logSumExp),
      dout: call.activation(dout),
      dqkv: call.at(dqkv),
    };
    const apart = () => {
      attendGrad(call, plans, shape, at);
      turn(call, at.dqkv, shape, angles, -1);
    };
    const together = () =>
      shortAttentionGrad(call, shape, angles, [at.qkv, at.out, at.logSumExp, at.dout, at.dqkv]);
    const ways = shortTakes(call.backend, 'backward', shape) ? [apart, together] : [apart];
    ways[quickest(call.backend, 'gradient of attention', shape, ways)]?.();
    return [dqkv];
  });

  registerCudaKernel(varlenAttentionKernel, (call, { qkv }, { heads, lengths }) => {
    const { size } = shapeOf(qkv, heads);
    const out = call.makeActivation([1, qkv.shape[1] as number, heads * size]);
    let next = 0;
    const starts = lengths.map((length) => {
      next += length;
      return next - length;
    });
    const table = call.upload(Int32Array.of(...starts, ...lengths));
    const tiles = Math.ceil(Math.max(...lengths) / TILE);
    const shared = 4 * (2 * TILE * (size + 1) + TILE * (TILE + 1));
    refuseLargeHeads(call, size, shared);
    const grid = [tiles, lengths.length * heads, 1] as const;
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

  registerCudaKernel(prefillCacheKernel, (call, { qkv }, { lengths, slots }) => {
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

  registerCudaKernel(decodeAttentionKernel, (call, { qkv, cache, rows, lengths }, { heads }) => {
    const { size } = shapeOf(qkv, heads);
    const slots = cache.shape[1] as number;
    const out = call.makeActivation([1, rows.size, heads * size]);
    const next = call.reuse(cache, call.backend.activations);
    const grid = [rows.size, heads, 1] as const;
    call.launch('attention', 'attentionCached', { grid, block: THREADS, shared: 4 * slots }, [
      address(call.activation(qkv)),
      address(call.at(next)),
      address(call.int(rows)),
      address(call.int(lengths)),
      address(call.at(out)),
      slots,
      heads,
      size,
      float(1 / Math.sqrt(size)),
    ]);
    return [out, next];
  });
}

const INPUTS = [TENSOR.q, TENSOR.k, TENSOR.v];
const GRADIENTS = [TENSOR.dq, TENSOR.dk, TENSOR.dv];

function shapeOf(qkv: Tensor, heads: number): AttentionShape {
  const [batch, n, width] = qkv.shape as [number, number, number];
  return { batch, heads, n, size: width / 3 / heads };
}

/** cuDNN computes in bf16 alone. */
function usesCudnn(backend: CudaBackend, shape: AttentionShape): boolean {
  return backend.activations === 'bfloat16' && cudnnTakes(shape);
}

/** Where q, k and v begin in packed rows [B, n, 3, H, K] of bf16. */
function packed(
  at: Address,
  { heads, size }: AttentionShape,
  ids: readonly number[],
): (readonly [id: number, at: Address])[] {
  return ids.map((id, i) => [id, at + 2 * i * heads * size] as const);
}

function outputsOf(call: Call, { batch, heads, n, size }: AttentionShape): [out: Tensor, logSumExp: Tensor] {
  return [call.makeActivation([batch, n, heads * size]), call.make([batch, heads, n], 'float32')];
}

/** Of packed rows [.., 3, H, K] and the table of their angles, [P, K]. */
function headsOf(packedRows: Tensor, table: Tensor): number {
  return (packedRows.shape[2] as number) / 3 / (table.shape[1] as number);
}

function anglesOf(
  call: Call,
  { table, positions }: { table: Tensor; positions: Tensor | undefined },
): Angles {
  return { table: call.float(table), positions: positions === undefined ? null : call.int(positions) };
}

/** The number of the faster way; the first, cuDNN's, where nothing may be measured. */
function quickest(
  { cublas }: CudaBackend,
  what: string,
  { batch, heads, n, size }: AttentionShape,
  ways: (() => void)[],
): number {
  if (ways.length === 1) return 0;
  return cublas.tuning()?.quickest(`${what} [${batch},${heads},${n},${size}], apart or together`, ways) ?? 0;
}

/** From turned rows. */
function attend(
  call: Call,
  plans: AttentionPlans,
  shape: AttentionShape,
  [qkv, out, logSumExp]: [Address, Address, Address],
): void {
  if (usesCudnn(call.backend, shape)) {
    const outputs = [
      [TENSOR.out, out],
      [TENSOR.logSumExp, logSumExp],
    ] as const;
    execute(call, plans, 'forward', shape, [...packed(qkv, shape, INPUTS), ...outputs]);
  } else {
    const shared = 4 * (2 * TILE * (shape.size + 1) + TILE * (TILE + 1));
    launchOwn(call, 'attention', shape, shared, [qkv, out, logSumExp]);
  }
}

interface GradAddresses {
  qkv: Address;
  out: Address;
  logSumExp: Address;
  dout: Address;
  dqkv: Address;
}

/** From turned rows to the gradients of those. */
function attendGrad(call: Call, plans: AttentionPlans, shape: AttentionShape, at: GradAddresses): void {
  const { batch, heads, n, size } = shape;
  const delta = call.scratch(4 * batch * heads * n);
  if (usesCudnn(call.backend, shape)) {
    const sure = call.backend.deterministic || n <= SHORT;
    const pass = sure ? 'deterministic backward' : 'backward';
    const dqSum = pass === 'backward' ? call.scratch(4 * batch * heads * n * size) : null;
    execute(call, plans, pass, shape, [
      ...packed(at.qkv, shape, INPUTS),
      ...packed(at.dqkv, shape, GRADIENTS),
      [TENSOR.out, at.out],
      [TENSOR.dout, at.dout],
      [TENSOR.logSumExp, at.logSumExp],
      [TENSOR.delta, delta],
      ...(dqSum === null ? [] : [[TENSOR.dqSum, dqSum] as const]),
    ]);
  } else {
    const rows = batch * n * heads;
    const args = [address(at.dout), address(at.out), address(delta), n, heads, size, rows];
    call.launch('attention', 'attentionDelta', warpRows(rows), args);
    const tiles = 4 * TILE * (size + 1);
    const addresses = [at.qkv, at.dout, at.logSumExp, delta, at.dqkv];
    launchOwn(call, 'attentionGradQuery', shape, 4 * (tiles + TILE * (TILE + 1)), addresses);
    launchOwn(call, 'attentionGradKeyValue', shape, 4 * (tiles + 2 * TILE * (TILE + 1)), addresses);
  }
}

function execute(
  call: Call,
  plans: AttentionPlans,
  pass: Parameters<AttentionPlans['plan']>[0],
  shape: AttentionShape,
  tensors: (readonly [id: number, at: Address])[],
): void {
  const plan = plans.plan(pass, shape);
  const workspace = plan.workspaceBytes > 0 ? call.scratch(plan.workspaceBytes) : 0;
  call.backend.cudnn.execute(plan, [...tensors, ...plans.scalars(pass, shape.size)], workspace);
  call.backend.settle('attention');
}

function launchOwn(
  call: Call,
  name: string,
  shape: AttentionShape,
  shared: number,
  addresses: Address[],
): void {
  const { batch, heads, n, size } = shape;
  if (size > LARGEST_OWN_HEAD || shared > call.backend.driver.sharedMemory) {
    throw new Error(
      `attention heads of size ${size} are larger than this GPU's kernels take in this precision`,
    );
  }
  const grid = [Math.ceil(n / TILE), batch * heads, 1] as const;
  call.launch('attention', name, { grid, block: THREADS, shared }, [
    ...addresses.map(address),
    n,
    heads,
    size,
    float(1 / Math.sqrt(size)),
  ]);
}

function refuseLargeHeads(call: Call, size: number, shared: number): void {
  if (size > LARGEST_OWN_HEAD || shared > call.backend.driver.sharedMemory) {
    throw new Error(
      `attention heads of size ${size} are larger than this GPU's kernels take in this precision`,
    );
  }
}

/** Positions turned into q and k of rows [B, n, 3, H, K], in place. */
function turn(
  call: Call,
  rows: Address,
  { batch, heads, n, size }: AttentionShape,
  { table, positions }: Angles,
  direction: 1 | -1,
): void {
  const vector = vectorOf(size / 2);
  const threads = (batch * n * 2 * heads * (size / 2)) / vector;
  call.launch('rotary', `rotary${vector}`, { grid: Math.ceil(threads / THREADS), block: THREADS }, [
    address(rows),
    address(table),
    address(positions),
    batch * n,
    n,
    heads,
    size,
    float(direction),
  ]);
}
