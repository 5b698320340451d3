/**
 * The MLP of a block as experts: each token goes to its likeliest expert, if that has a slot left, and the output is scaled
 * by the expert's probability (Fedus et al. 2022).
 */
import { type Tensor, tensor2d, zeros } from '@tensorflow/tfjs-core';
import { dispatchTokensKernel } from '../ops/dispatch-tokens.js';
import { expertLogits } from '../ops/expert-logits.js';
import { gatedScatterAdd } from '../ops/gated-scatter-add.js';
import { gatherTokens } from '../ops/gather-tokens.js';
import { groupedMlp } from '../ops/grouped-mlp.js';
import { reshaped } from '../ops/reshaped.js';
import type { Parameter, Tape } from '../ops/tape.js';
import { top1Expert } from '../ops/top1-expert.js';
import { roundedRows, shapesVary } from '../ops/varying-shapes.js';
import { type ExpertsConfig, expertChoices } from './config.js';

/** What the experts of a block did: for the balance loss and the statistics. C choices: E experts, then the no-ops. */
export interface ExpertTrace {
  block: number;
  /** [B, n, C], or [1, N, C] of packed sequences; null if no token reached the block. */
  logits: Tensor | null;
  /** Softmax of the logits. */
  probabilities: Tensor | null;
  /** [C + E, B]: in each sequence the number of tokens that made each choice, then the number that each expert processed. */
  counts: Tensor;
}

/** The tokens that the experts process, grouped by expert; all experts have the same number of slots. */
export interface Assignment {
  /** [1, E·slots] int32 into the B·n tokens of the batch, B·n for an empty slot; null if every slot is empty. */
  indices: Tensor | null;
  /** As in ExpertTrace. */
  counts: Tensor;
}

/** Assigns tokens to the experts' slots, from the choice [B, n] int32 of every token. */
export type Assign = (choice: Tensor) => Assignment;

export interface ExpertParameters {
  /** [C, D] */
  expertRouter: Parameter;
  /** [E·F, D] */
  up: Parameter;
  /** [E·D, F] */
  down: Parameter;
}

/** Assigns on the device, without reading the choices back: for sequences of equal length, from their first token on. */
export function assignOnDevice(experts: ExpertsConfig, slots: number): Assign {
  return (choice) => {
    const used = Math.min(slots, choice.shape[1] as number); // a short sequence cannot fill more
    const attrs = { experts: experts.count, choices: expertChoices(experts), slots: used };
    const [indices, counts] = dispatchTokensKernel({ choice }, attrs);
    return { indices, counts };
  };
}

/**
 * How many slots of a block's experts the tokens so far have filled, sequence by sequence. Reads the choices back to the
 * host: for the evaluation of packed sequences and for decoding.
 */
export class ExpertOccupancy {
  /** Tokens of each sequence that made each choice: [sequences, choices]. */
  readonly chosen: Int32Array;

  constructor(
    private readonly experts: ExpertsConfig,
    private readonly slots: number,
    private readonly sequences: number,
  ) {
    this.chosen = new Int32Array(sequences * expertChoices(experts));
  }

  /** @param sequenceOf the sequence of each new token; tokens of one sequence are in its order */
  assign(sequenceOf: readonly number[]): Assign {
    return (choice) => {
      const { count } = this.experts;
      const choices = expertChoices(this.experts);
      const rowsOf = Array.from({ length: count }, (): number[] => []);
      const made = choice.dataSync() as Int32Array;
      sequenceOf.forEach((sequence, row) => {
        const chosen = made[row] as number;
        const at = sequence * choices + chosen;
        const rank = this.chosen[at] as number;
        this.chosen[at] = rank + 1;
        if (chosen < count && rank < this.slots) rowsOf[chosen]?.push(row);
      });
      const most = Math.max(...rowsOf.map(({ length }) => length));
      const slots = shapesVary() && most > 0 ? roundedRows(most) : most;
      const padded = rowsOf.flatMap((rows) => [
        ...rows,
        ...Array<number>(slots - rows.length).fill(made.length),
      ]);
      return {
        indices: slots === 0 ? null : tensor2d(padded, [1, count * slots], 'int32'),
        counts: this.counts(),
      };
    };
  }

  /** `counts` of ExpertTrace, over all tokens so far. */
  counts(): Tensor {
    const choices = expertChoices(this.experts);
    const of = (choice: number, sequence: number) => this.chosen[sequence * choices + choice] as number;
    const column = Array.from({ length: this.sequences }, (_, sequence) => sequence);
    const chosen = Array.from({ length: choices }, (_, i) => column.map((sequence) => of(i, sequence)));
    const kept = chosen.slice(0, this.experts.count).map((row) => row.map((n) => Math.min(n, this.slots)));
    return tensor2d([...chosen, ...kept], [choices + this.experts.count, this.sequences], 'float32');
  }
}

/** What a block's experts do with their tokens. */
export interface ExpertWork {
  config: ExpertsConfig;
  assign: Assign;
  /** ρ: the factor of the experts' outputs. */
  residualMultiplier: number;
}

/**
 * to_t + ρ·p_t·expert(x_t) for a token whose likeliest choice is an expert with a slot left, p its probability; to_t, bit for
 * bit, for a token that chose a no-op or a full expert (Fedus et al. 2022, section 2.2). to, x [B, n, D] → sum [B, n, D]
 */
export function addExperts(
  tape: Tape | null,
  to: Tensor,
  x: Tensor,
  { expertRouter, up, down }: ExpertParameters,
  { config: { count }, assign, residualMultiplier }: ExpertWork,
  block: number,
): { sum: Tensor; trace: ExpertTrace } {
  const [batch, n, width] = x.shape as [number, number, number];
  const logits = expertLogits(tape, x, expertRouter); // [B, n, C]
  const { probabilities, gate, choice } = top1Expert(tape, logits); // [B, n, C], [B, n], [B, n]
  const { indices, counts } = assign(choice);
  const trace = { block, logits, probabilities, counts };
  if (indices === null) return { sum: to.clone(), trace };
  const asOne = (rows: Tensor) => reshaped(tape, rows, [1, batch * n, width]);
  const rows = gatherTokens(tape, asOne(x), indices); // [1, E·slots, D]
  const out = groupedMlp(tape, rows, up, down, count, residualMultiplier); // [1, E·slots, D]
  const scale = reshaped(tape, gate, [1, batch * n]);
  const sum = gatedScatterAdd(tape, asOne(to), out, scale, indices, 'raw'); // [1, B·n, D]
  return { sum: reshaped(tape, sum, to.shape), trace };
}

/** The trace of a block that no token of a batch reached. */
export function emptyTrace(experts: ExpertsConfig, sequences: number, block: number): ExpertTrace {
  const counts = zeros([expertChoices(experts) + experts.count, sequences]);
  return { block, logits: null, probabilities: null, counts };
}
