/** Rotary on TensorFlow: a turn as x·cos + swapped(x)·sin over packed rows, in which v's angles are 0. */
import type { Tensor } from '@tensorflow/tfjs-core';
import { rotaryGradKernel, rotaryKernel } from '../../ops/rotary.js';
import { type Calls, type Handle, last, registerTensorflowKernel } from './calls.js';

export function registerRotary(): void {
  registerTensorflowKernel(rotaryKernel, (calls, { qkv, table, positions }) => [
    turn(calls, qkv, table, positions, 1),
  ]);

  registerTensorflowKernel(rotaryGradKernel, (calls, { dqkv, table, positions }) => [
    turn(calls, dqkv, table, positions, -1),
  ]);
}

/** Packed rows [B, n, 3, H, K] turned; the pair of x_i is x_{i + K/2}, which a roll by K/2 brings to its place. */
function turn(
  calls: Calls,
  packed: Tensor,
  table: Tensor,
  positions: Tensor | undefined,
  direction: 1 | -1,
): Handle {
  return calls.scope(() => {
    const [batch, n, width] = packed.shape as [number, number, number];
    const size = table.shape[1] as number;
    const x = calls.reshape(calls.input(packed), [batch, n, 3, width / 3 / size, size]);
    const { cos, sin } = anglesOf(calls, table, positions, n, direction);
    const swapped = calls.run('Roll', [x, calls.whole(size / 2), calls.whole(4)]);
    const turned = calls.add(last(calls.mul(x, cos)), last(calls.mul(last(swapped), sin)));
    return calls.reshape(last(turned), packed.shape);
  });
}

interface Angles {
  /** [1 or B, n, 3, 1, K]: the cosines of both halves of a head for q and k, 1 for v. */
  cos: Handle;
  /** The same of the sines, the first half's negated, 0 for v; all negated again for a turn backwards. */
  sin: Handle;
}

function anglesOf(
  calls: Calls,
  table: Tensor,
  positions: Tensor | undefined,
  n: number,
  direction: 1 | -1,
): Angles {
  const [cos, sin] = calls.scope(() => {
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
    const [cosines, sines] = [calls.slice(rows, 1, 0, half), calls.slice(rows, 1, half, half)];
    const signed = [calls.scale(sines, -direction), calls.scale(sines, direction)];
    const still = (value: number) => calls.run('Fill', [calls.vector(rows.shape), calls.scalar(value)]);
    const packed = (turned: Handle[], value: number) => {
      const both = calls.concat(turned, 1); // [rows, K]
      return calls.reshape(calls.concat([both, both, still(value)], 1), [-1, n, 3, 1, size]);
    };
    return [packed([cosines, cosines], 1), packed(signed, 0)];
  }) as [Handle, Handle];
  return { cos, sin };
}
