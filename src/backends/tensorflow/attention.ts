/**
 * CausalAttention on TensorFlow: products over all heads at once and a block of queries or keys at a time, so that most
 * of the masked half is never computed.
 */
import type { Tensor } from '@tensorflow/tfjs-core';
import { causalAttentionGradKernel, causalAttentionKernel } from '../../ops/causal-attention.js';
import { bool, type Calls, type Handle, last, type Operand, registerTensorflowKernel } from './calls.js';

/** Queries or keys at a time: products still run at full rate, and of T = 512 only 5/8 are computed. */
const BLOCK = 128;
/** What is added to a masked score: no exponential survives it. */
const MASKED = -1e30;

export function registerAttention(): void {
  registerTensorflowKernel(causalAttentionKernel, (calls, { qkv }, { heads }) => {
    const [batch, n, width] = qkv.shape as [number, number, number];
    const size = width / 3 / heads;
    const [queries, keys, values] = splitHeads(calls, qkv, heads);
    const scaled = calls.scale(queries, 1 / Math.sqrt(size));
    const blocks = blocksOf(n).map(({ start, end }) =>
      calls.scope(() => {
        const rows = between(calls, scaled, start, end);
        return attend(calls, rows, between(calls, keys, 0, end), between(calls, values, 0, end), start);
      }),
    );
    const [out, logSumExp] = [0, 1].map((i) =>
      calls.concat(
        blocks.map((block) => block[i] as Handle),
        1,
      ),
    ) as [Handle, Handle];
    const merged = calls.transpose(calls.reshape(out, [batch, heads, n, size]), [0, 2, 1, 3]);
    return [calls.reshape(merged, [batch, n, heads * size]), calls.reshape(logSumExp, [batch, heads, n])];
  });

  registerTensorflowKernel(causalAttentionGradKernel, (calls, { qkv, out, logSumExp, dout }, { heads }) => {
    const [batch, n, width] = qkv.shape as [number, number, number];
    const size = width / 3 / heads;
    const [queries, keys, values] = splitHeads(calls, qkv, heads);
    const split = (x: Handle) => calls.transpose(calls.reshape(x, [batch, n, heads, -1]), [0, 2, 1, 3]);
    const asRows = (x: Handle) => calls.reshape(x, [batch * heads, n, -1]);
    const delta = calls.scope(() => {
      const product = calls.reshape(calls.mul(calls.input(dout), calls.input(out)), [batch, n, heads, size]);
      return asRows(split(calls.reduce('Sum', product, 3)));
    });
    const scale = 1 / Math.sqrt(size);
    const inputs = {
      queries: calls.scale(queries, scale),
      dout: calls.scope(() => asRows(split(calls.input(dout)))),
      logSumExp: asRows(calls.input(logSumExp)),
      delta,
    };
    const done: { dq: Handle[]; dk: Handle[]; dv: Handle[] } = { dq: [], dk: [], dv: [] };
    // dq of the queries from the block's first on, summed over the keys before it.
    let dRest: Handle | null = null;
    for (const { start, end } of blocksOf(n)) {
      const before: Handle | null = dRest;
      const [dk, dv, dq, rest] = calls.scope(() => {
        const block = {
          keys: between(calls, keys, start, end),
          values: between(calls, values, start, end),
          queries: between(calls, inputs.queries, start, n),
          dout: between(calls, inputs.dout, start, n),
          logSumExp: between(calls, inputs.logSumExp, start, n),
          delta: between(calls, inputs.delta, start, n),
        };
        const [dkBlock, dvBlock, addend] = attendBack(calls, block);
        const sum = before === null ? addend : calls.add(before, addend);
        const length = end - start;
        const finished = between(calls, sum, 0, length);
        return [dkBlock, dvBlock, finished, ...(end < n ? [between(calls, sum, length, n - start)] : [])];
      }) as [Handle, Handle, Handle, Handle | undefined];
      if (before !== null) calls.drop(before);
      dRest = rest ?? null;
      done.dq.push(dq);
      done.dk.push(dk);
      done.dv.push(dv);
    }
    const dq = calls.scale(calls.concat(done.dq, 1), scale);
    const stacked = calls.concat([dq, calls.concat(done.dk, 1), calls.concat(done.dv, 1)], 0);
    const byHead = calls.reshape(last(stacked), [3, batch, heads, n, size]);
    const byToken = calls.transpose(last(byHead), [1, 3, 0, 2, 4]);
    return [calls.reshape(byToken, qkv.shape)];
  });
}

/** q, k and v of packed rows [B, n, 3, H, K], each [B·H, n, K]. */
function splitHeads(calls: Calls, qkv: Tensor, heads: number): [q: Handle, k: Handle, v: Handle] {
  const [batch, n, width] = qkv.shape as [number, number, number];
  const size = width / 3 / heads;
  return calls.scope(() => {
    const rows = calls.reshape(calls.input(qkv), [batch, n, 3, heads, size]);
    const parts = calls.split(calls.transpose(rows, [2, 0, 3, 1, 4]), [1, 1, 1]);
    return parts.map((part) => calls.reshape(part, [batch * heads, n, size]));
  }) as [Handle, Handle, Handle];
}

function blocksOf(n: number): { start: number; end: number }[] {
  return Array.from({ length: Math.ceil(n / BLOCK) }, (_, i) => ({
    start: i * BLOCK,
    end: Math.min((i + 1) * BLOCK, n),
  }));
}

/** Tokens start..end of x [B·H, n, K]. */
function between(calls: Calls, x: Handle, start: number, end: number): Handle {
  return start === 0 && end === x.shape[1] ? x : calls.slice(x, 1, start, end - start);
}

function product(
  calls: Calls,
  a: Operand,
  b: Operand,
  flags: { transposeA?: boolean; transposeB?: boolean } = {},
) {
  const { transposeA = false, transposeB = false } = flags;
  return calls.run('BatchMatMulV2', [a, b], [bool('adj_x', transposeA), bool('adj_y', transposeB)]);
}

/** [queries, keys]: 0 where query `first` + i may see key j, that is j ≤ first + i, and MASKED elsewhere. */
function causalMask(calls: Calls, queries: number, keys: number, first: number): Handle {
  return calls.scope(() => {
    const full = calls.run('Fill', [calls.vector([queries, keys]), calls.scalar(MASKED)]);
    return calls.sub(full, calls.run('MatrixBandPart', [full, calls.whole(-1), calls.whole(first)]));
  });
}

/** Queries first.. [B·H, m, K], scaled, over the keys and values that they see → [out [B·H, m, K], logSumExp [B·H, m, 1]] */
function attend(
  calls: Calls,
  queries: Handle,
  keys: Handle,
  values: Handle,
  first: number,
): [Handle, Handle] {
  const scores = product(calls, queries, keys, { transposeB: true });
  const mask = causalMask(calls, queries.shape[1] as number, keys.shape[1] as number, first);
  const masked = calls.add(last(scores), last(mask));
  const top = calls.reduce('Max', masked, 2, true);
  const shifted = calls.sub(last(masked), top);
  const weights = calls.run('Exp', [last(shifted)]);
  const total = calls.reduce('Sum', weights, 2, true);
  // Divided after the product: it has K columns, the weights have one for every key.
  const out = calls.run('Div', [last(product(calls, last(weights), values)), total]);
  return [out, calls.add(top, calls.run('Log', [total]))];
}

interface KeyBlock {
  /** [B·H, m, K] */
  keys: Handle;
  values: Handle;
  /** Of the queries from the block's first key on: [B·H, n - start, ..], the queries scaled. */
  queries: Handle;
  dout: Handle;
  logSumExp: Handle;
  delta: Handle;
}

/** [dk, dv] of a block of keys, and what it adds to dq, unscaled, of the queries that see it. */
function attendBack(calls: Calls, block: KeyBlock): [dk: Handle, dv: Handle, dq: Handle] {
  const { keys, values, queries, dout, logSumExp, delta } = block;
  const scores = product(calls, queries, keys, { transposeB: true });
  const mask = causalMask(calls, queries.shape[1] as number, keys.shape[1] as number, 0);
  const shifted = calls.sub(last(scores), logSumExp);
  const masked = calls.add(last(shifted), last(mask));
  const weights = calls.run('Exp', [last(masked)]);
  const dv = product(calls, weights, dout, { transposeA: true });
  const dWeights = product(calls, dout, values, { transposeB: true });
  const centred = calls.sub(last(dWeights), delta);
  const dScores = calls.mul(last(weights), last(centred));
  const dk = product(calls, dScores, queries, { transposeA: true });
  return [dk, dv, product(calls, last(dScores), keys)];
}
