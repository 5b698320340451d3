/** DispatchTokens: which token every slot of every expert holds: each sequence's in order, until its slots are full. */
import {
  add,
  cast,
  concat,
  cumsum,
  less,
  logicalAnd,
  minimum,
  mul,
  range,
  reshape,
  scalar,
  slice,
  sub,
  sum,
  type Tensor,
  transpose,
  where,
} from '@tensorflow/tfjs-core';
import { defineKernel } from './kernel.js';
import { hotRows } from './one-hot.js';

export interface DispatchTokensAttrs {
  experts: number;
  /** Experts and no-ops. */
  choices: number;
  /** Of an expert in a sequence. */
  slots: number;
}

/**
 * {choice [B, n] int32 below `choices`} → [indices [1, E·B·slots] int32: for every slot, expert by expert and in it
 * sequence by sequence, its token among the B·n of the batch, B·n where it is empty; counts [choices + E, B] float32: of
 * each sequence the tokens that made each choice, then those that each expert has slots for]. A token's place depends on
 * the tokens before it in its sequence and on nothing else. No-ops, the choices from E on, have no slots.
 */
export const dispatchTokensKernel = defineKernel(
  'DispatchTokens',
  (
    { choice }: { choice: Tensor },
    { experts, choices, slots }: DispatchTokensAttrs,
  ): [indices: Tensor, counts: Tensor] => {
    const [batch, n] = choice.shape as [number, number];
    const [tokens, places] = [batch * n, experts * batch * slots];
    const whole = (value: number) => scalar(value, 'int32');
    const hot = hotRows(choice, choices); // [B, n, C]
    const rank = cast(sum(mul(hot, cumsum(hot, 1, true)), -1), 'int32'); // [B, n]
    const fits = logicalAnd(less(choice, whole(experts)), less(rank, whole(slots)));
    const starts = reshape(mul(range(0, batch, 1, 'int32'), whole(slots)), [batch, 1]);
    const place = add(add(mul(choice, whole(batch * slots)), starts), rank);
    const held = hotRows(reshape(where(fits, place, whole(places)), [tokens]), places, 'int32');
    const shifted = reshape(sub(range(0, tokens, 1, 'int32'), whole(tokens)), [tokens, 1]);
    const indices = reshape(add(sum(mul(held, shifted), 0), whole(tokens)), [1, places]);
    const chosen = transpose(sum(hot, 1)); // [C, B]
    const kept = minimum(slice(chosen, [0, 0], [experts, batch]), slots);
    return [indices, concat([chosen, kept], 0)];
  },
);
