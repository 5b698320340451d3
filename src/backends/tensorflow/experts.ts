/** The dispatch of tokens to experts on TensorFlow. */
import { dispatchTokensKernel } from '../../ops/dispatch-tokens.js';
import { bool, DTYPE, tensorflowKernel } from './calls.js';

const dispatchTokens = tensorflowKernel(
  dispatchTokensKernel,
  (calls, { choice }, { experts, choices, slots }) => {
    const [batch, n] = choice.shape as [number, number];
    const [tokens, places] = [batch * n, experts * batch * slots];
    const chosen = calls.input(choice);
    const hot = calls.run('OneHot', [chosen, calls.int32(choices), calls.float32(1), calls.float32(0)]);
    const before = calls.run(
      'Cumsum',
      [hot, calls.int32(1)],
      [bool('exclusive', true), bool('reverse', false)],
    );
    const rank = calls.cast(calls.reduce('Sum', calls.mul(hot, before), 2), DTYPE.int32); // [B, n]
    const starts = calls.run('Range', [calls.int32(0), calls.int32(batch * slots), calls.int32(slots)]);
    const inExpert = calls.add(rank, calls.reshape(starts, [batch, 1]));
    const place = calls.add(calls.mul(chosen, calls.int32(batch * slots)), inExpert);
    const fits = calls.run('LogicalAnd', [
      calls.run('Less', [chosen, calls.int32(experts)]),
      calls.run('Less', [rank, calls.int32(slots)]),
    ]);
    // One extra slot collects the tokens without a slot.
    const at = calls.reshape(calls.run('SelectV2', [fits, place, calls.int32(places)]), [tokens, 1]);
    const ids = calls.run('Range', [calls.int32(0), calls.int32(tokens), calls.int32(1)]);
    const empty = calls.run('Fill', [calls.vector([places + 1]), calls.int32(tokens)]);
    const held = calls.run('TensorScatterUpdate', [empty, at, ids]);
    const totals = calls.transpose(calls.reduce('Sum', hot, 1), [1, 0]); // [C, B]
    const kept = calls.run('Minimum', [calls.slice(totals, 0, 0, experts), calls.float32(slots)]);
    const indices = calls.reshape(calls.slice(held, 0, 0, places), [1, places]);
    return [indices, calls.concat([totals, kept], 0)];
  },
);

export const expertKernels = [dispatchTokens];
