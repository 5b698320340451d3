/**
 * DispatchTokens: assigns tokens to the slots of the experts that they chose, each sequence's tokens in order; tokens beyond an
 * expert's capacity are dropped (Fedus et al. 2022, section 2.2).
 */
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
import { oneHot } from './one-hot.js';

export interface DispatchTokensAttrs {
  experts: number;
  /** Number of experts and no-ops. */
  choices: number;
  /** Slots of one expert for one sequence. */
  slots: number;
}

/**
 * {choice [B, n] int32 below `choices`} → [indices [1, E·B·slots] int32: the token of each slot as an index into the B·n tokens
 * of the batch, B·n for an empty slot, ordered by expert, then by sequence; counts [choices + E, B] float32: for each
 * sequence the tokens that made each choice, then the tokens that got a slot of each expert]. A token's slot depends only on
 * the tokens before it in its sequence. No-ops, the choices from E on, have no slots.
 */
export const dispatchTokensKernel = defineKernel(
  'DispatchTokens',
  (
    { choice }: { choice: Tensor },
    { experts, choices, slots }: DispatchTokensAttrs,
  ): [indices: Tensor, counts: Tensor] => {
    const [batch, n] = choice.shape as [number, number];
    const [tokens, places] = [batch * n, experts * batch * slots];
    const int32 = (value: number) => scalar(value, 'int32');
    const hot = oneHot(choice, choices); // [B, n, C]
    const rank = cast(sum(mul(hot, cumsum(hot, 1, true)), -1), 'int32'); // [B, n]
    const fits = logicalAnd(less(choice, int32(experts)), less(rank, int32(slots)));
    const starts = reshape(mul(range(0, batch, 1, 'int32'), int32(slots)), [batch, 1]);
    const place = add(add(mul(choice, int32(batch * slots)), starts), rank);
    const held = oneHot(reshape(where(fits, place, int32(places)), [tokens]), places, 'int32');
    const shifted = reshape(sub(range(0, tokens, 1, 'int32'), int32(tokens)), [tokens, 1]);
    const indices = reshape(add(sum(mul(held, shifted), 0), int32(tokens)), [1, places]);
    const chosen = transpose(sum(hot, 1)); // [C, B]
    const kept = minimum(slice(chosen, [0, 0], [experts, batch]), slots);
    return [indices, concat([chosen, kept], 0)];
  },
);
