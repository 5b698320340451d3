/** RotaryHeads on TensorFlow: one transposition, and a turn as x·cos + swapped(x)·sin over whole heads. */
import type { Tensor } from '@tensorflow/tfjs-core';
import { rotaryHeadsGradKernel, rotaryHeadsKernel } from '../../ops/rotary-heads.js';
import { type Calls, type Handle, last, registerTensorflowKernel } from './calls.js';

export function registerRotary(): void {
  registerTensorflowKernel(rotaryHeadsKernel, (calls, { qkv, table, positions }) => {
    const [batch, n, width] = qkv.shape as [number, number, number];
    const size = table.shape[1] as number;
    const heads = width / 3 / size;
    const split = calls.reshape(calls.input(qkv), [batch, n, 3, heads, size]);
    const byHead = calls.split(calls.transpose(split, [2, 0, 3, 1, 4]), [1, 1, 1]);
    const [q, k, v] = byHead.map((x) => calls.reshape(x, [batch, heads, n, size])) as [
      Handle,
      Handle,
      Handle,
    ];
    const angles = anglesOf(calls, table, positions, n, 1);
    return [turn(calls, q, angles), turn(calls, k, angles), calls.run('Identity', [v])];
  });

  registerTensorflowKernel(rotaryHeadsGradKernel, (calls, { dq, dk, dv, table, positions }) => {
    const [batch, heads, n, size] = dq.shape as [number, number, number, number];
    const angles = anglesOf(calls, table, positions, n, -1);
    const [q, k] = [dq, dk].map((x) => turn(calls, calls.input(x), angles)) as [Handle, Handle];
    const stacked = calls.concat([last(q), last(k), calls.input(dv)], 0);
    const byHead = calls.reshape(last(stacked), [3, batch, heads, n, size]);
    const byToken = calls.transpose(last(byHead), [1, 3, 0, 2, 4]);
    return [calls.reshape(byToken, [batch, n, 3 * heads * size])];
  });
}

interface Angles {
  /** [n, K] or, with positions, [B, 1, n, K]: the cosines of both halves of a head. */
  cos: Handle;
  /** The same of the sines, the first half's negated; all negated again for a turn backwards. */
  sin: Handle;
}

function anglesOf(
  calls: Calls,
  table: Tensor,
  positions: Tensor | undefined,
  n: number,
  direction: 1 | -1,
): Angles {
  return fromPair(
    calls.scope(() => {
      const size = table.shape[1] as number;
      const half = size / 2;
      const all = calls.input(table);
      const rows =
        positions === undefined
          ? calls.slice(all, 0, 0, n)
          : calls.run('GatherV2', [
              all,
              calls.reshape(calls.input(positions), [positions.size]),
              calls.whole(0),
            ]);
      const [cos, sin] = [calls.slice(rows, 1, 0, half), calls.slice(rows, 1, half, half)];
      const signed = [calls.scale(sin, -direction), calls.scale(sin, direction)];
      const pair = [calls.concat([cos, cos], 1), calls.concat(signed, 1)];
      return positions === undefined ? pair : pair.map((x) => calls.reshape(x, [-1, 1, n, size]));
    }),
  );
}

const fromPair = ([cos, sin]: Handle[]): Angles => ({ cos: cos as Handle, sin: sin as Handle });

/** x [B, H, n, K] turned: the pair of x_i is x_{i + K/2}, which a roll by K/2 brings to its place. */
function turn(calls: Calls, x: Handle, { cos, sin }: Angles): Handle {
  return calls.scope(() => {
    const swapped = calls.run('Roll', [x, calls.whole((x.shape[3] as number) / 2), calls.whole(3)]);
    return calls.add(last(calls.mul(x, cos)), last(calls.mul(last(swapped), sin)));
  });
}
