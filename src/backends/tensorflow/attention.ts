/**
 * CausalAttention on TensorFlow: products over all heads at once and one block of queries or keys at a time, which skips most
 * of the masked half. The steps between the products are the project's own operations (native/).
 */
import { causalAttentionGradKernel, causalAttentionKernel } from '../../ops/causal-attention.js';
import { bool, type Calls, type Handle, lastUse, type Operand, tensorflowKernel } from './calls.js';

/** Queries or keys in a block: products run at full speed, and at T = 512 only 5/8 of the scores are computed. */
const BLOCK = 128;

const causalAttention = tensorflowKernel(causalAttentionKernel, (calls, { qkv }, { heads }) => {
  const [batch, n, width] = qkv.shape as [number, number, number];
  const scale = 1 / Math.sqrt(width / 3 / heads);
  const [queries, keys, values] = splitHeads(calls, calls.input(qkv), heads, 3) as [Handle, Handle, Handle];
  const blocks = blocksOf(n).map(({ start, end }) =>
    calls.scope(() => {
      const scores = product(calls, between(calls, queries, start, end), between(calls, keys, 0, end), {
        transposeB: true,
      });
      const inputs = [lastUse(scores), calls.float32(scale), calls.int32(start)];
      const [weights, logSumExp] = calls.runAll('ModAttentionWeights', inputs, [], 2) as [Handle, Handle];
      return [product(calls, lastUse(weights), between(calls, values, 0, end)), logSumExp];
    }),
  );
  const [out, logSumExp] = [0, 1].map((i) =>
    calls.concat(
      blocks.map((block) => block[i] as Handle),
      1,
    ),
  ) as [Handle, Handle];
  return [mergeHeads(calls, [out], heads), calls.reshape(logSumExp, [batch, heads, n])];
});

const causalAttentionGrad = tensorflowKernel(
  causalAttentionGradKernel,
  (calls, { qkv, out, logSumExp, dout }, { heads }) => {
    const [batch, n, width] = qkv.shape as [number, number, number];
    const scale = 1 / Math.sqrt(width / 3 / heads);
    const [queries, keys, values] = splitHeads(calls, calls.input(qkv), heads, 3) as [Handle, Handle, Handle];
    const inputs = {
      queries,
      dout: splitHeads(calls, calls.input(dout), heads, 1)[0] as Handle,
      logSumExp: calls.reshape(calls.input(logSumExp), [batch * heads, n, 1]),
      delta: calls.run('ModHeadDots', [calls.input(dout), calls.input(out), calls.int32(heads)]),
    };
    const finishedBlocks: { dq: Handle[]; dk: Handle[]; dv: Handle[] } = { dq: [], dk: [], dv: [] };
    // dq of the queries from the block's first query on, summed over the keys of the previous blocks.
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
        const [dkBlock, dvBlock, addend] = attendBack(calls, block, scale);
        const sum = before === null ? addend : calls.add(before, addend);
        const length = end - start;
        const finished = between(calls, sum, 0, length);
        return [dkBlock, dvBlock, finished, ...(end < n ? [between(calls, sum, length, n - start)] : [])];
      }) as [Handle, Handle, Handle, Handle | undefined];
      if (before !== null) calls.drop(before);
      dRest = rest ?? null;
      finishedBlocks.dq.push(dq);
      finishedBlocks.dk.push(dk);
      finishedBlocks.dv.push(dv);
    }
    const gradients = [finishedBlocks.dq, finishedBlocks.dk, finishedBlocks.dv].map((blocks) =>
      calls.concat(blocks, 1),
    );
    return [mergeHeads(calls, gradients, heads)];
  },
);

/** Packed rows [B, n, P, H, K] → P tensors [B·H, n, K]. */
function splitHeads(calls: Calls, packed: Handle, heads: number, parts: number): Handle[] {
  const [batch, n, width] = packed.shape as [number, number, number];
  const size = width / parts / heads;
  return calls.scope(() => {
    const apart = calls.run('ModSplitHeads', [packed, calls.int32(heads), calls.int32(size)]);
    const each = Array<number>(parts).fill(1);
    return calls.split(apart, each).map((part) => calls.reshape(part, [batch * heads, n, size]));
  });
}

/** P tensors [B·H, n, K] → packed rows [B, n, P·H·K]. */
function mergeHeads(calls: Calls, parts: Handle[], heads: number): Handle {
  return calls.scope(() => {
    const [rows, n, size] = (parts[0] as Handle).shape as [number, number, number];
    const apart = calls.reshape(calls.concat(parts, 0), [parts.length, rows, n, size]);
    return calls.run('ModMergeHeads', [apart, calls.int32(heads)]);
  });
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

interface KeyBlock {
  /** [B·H, m, K] */
  keys: Handle;
  values: Handle;
  /** [B·H, n - start, K], from the block's first key on, since earlier queries do not attend to it; so are the others. */
  queries: Handle;
  dout: Handle;
  logSumExp: Handle;
  delta: Handle;
}

/** dk and dv of a block of keys, and its addend to dq of the queries that attend to it. */
function attendBack(calls: Calls, block: KeyBlock, scale: number): [dk: Handle, dv: Handle, dq: Handle] {
  const { keys, values, queries, dout, logSumExp, delta } = block;
  const scores = product(calls, queries, keys, { transposeB: true });
  const dWeights = product(calls, dout, values, { transposeB: true });
  const inputs = [lastUse(scores), lastUse(dWeights), logSumExp, delta, calls.float32(scale)];
  const [weights, dScores] = calls.runAll('ModAttentionWeightsGrad', inputs, [], 2) as [Handle, Handle];
  const dv = product(calls, lastUse(weights), dout, { transposeA: true });
  const dk = product(calls, dScores, queries, { transposeA: true });
  return [dk, dv, product(calls, lastUse(dScores), keys)];
}

export const attentionKernels = [causalAttention, causalAttentionGrad];
