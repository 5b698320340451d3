/** Step-by-step decoding: each block caches the keys and values of only the tokens that it processed. */
import { concat, keep, reshape, type Tensor, tensor1d, tensor2d, zeros } from '@tensorflow/tfjs-core';
import { decodeAttentionKernel } from '../ops/decode-attention.js';
import { embedding } from '../ops/embedding.js';
import { gatedScatterAdd } from '../ops/gated-scatter-add.js';
import { gatherTokens } from '../ops/gather-tokens.js';
import { linear } from '../ops/linear.js';
import { predictorLogits } from '../ops/predictor-logits.js';
import { prefillCacheKernel } from '../ops/prefill-cache.js';
import { rmsNorm } from '../ops/rms-norm.js';
import { rotaryKernel } from '../ops/rotary.js';
import { scope } from '../ops/scope.js';
import { varyingShapes } from '../ops/varying-shapes.js';
import { addMlp, attentionHalf } from './block.js';
import { type CausalMode, expertChoices } from './config.js';
import { ExpertOccupancy, type ExpertTrace } from './experts.js';
import type { BlockParameters } from './parameters.js';
import { ROUTERS, type RoutedParameters } from './routers.js';
import { decisionOf, MODES } from './routing-modes.js';
import type { Transformer } from './transformer.js';

/** Keys and values of one block. */
export interface BlockCache {
  /** [S, L, 2D]: keys, then values; L slots per sequence, one for each token. */
  kv: Tensor;
  /** Tokens of each sequence in the cache. */
  lengths: Int32Array;
}

/** The state of one block after the prompts have been read. */
interface BlockState {
  cache: BlockCache;
  /** [sequences, choices], as in ExpertOccupancy; empty without experts. */
  chosen: Int32Array;
}

/** Sizes of all caches in bytes, in float32. */
export interface CacheBytes {
  /** Of the cached keys and values. */
  used: number;
  allocated: number;
  /** Of the keys and values that the dense model would cache. */
  dense: number;
}

export interface DecoderState {
  /** Position of each sequence's next token. */
  positions: Int32Array;
  caches: BlockCache[];
}

export interface DecoderStep {
  /** Logits of the next token of every sequence: [S, V]. The caller disposes them. */
  logits: Tensor;
  /** [routed block][sequence]: whether the block selected the sequence's token. */
  selected: boolean[][];
}

/** A routed block's cache starts with its capacity's share of the tokens and this many slots more; it grows by GROWTH. */
const SLACK_TOKENS = 16;
const GROWTH = 1.5;

export class Decoder {
  private readonly caches: BlockCache[] = [];
  /** Occupancy of each block's experts; empty without experts. */
  private readonly occupancies: ExpertOccupancy[] = [];
  private readonly positions: Int32Array;

  /**
   * @param mode a mode in which the model can be run (`weightsProblem` returns null)
   * @param sequences number of sequences, decoded in parallel
   * @param maxTokens maximum number of tokens of a sequence, prompt included
   * @throws RangeError if maxTokens exceeds the model's sequence length
   */
  constructor(
    private readonly model: Transformer,
    private readonly mode: CausalMode,
    private readonly sequences: number,
    private readonly maxTokens: number,
  ) {
    if (maxTokens > model.config.sequence_length) {
      throw new RangeError(
        `maxTokens (${maxTokens}) exceeds the model's sequence length (${model.config.sequence_length})`,
      );
    }
    this.positions = new Int32Array(sequences);
  }

  /**
   * Reads the prompts, one per sequence, each of at least one token; in one forward pass if they have the same length.
   * Returns the logits after their last tokens [S, V], which the caller disposes, and which tokens the routed blocks
   * selected: [sequence][routed block][token].
   */
  prefill(prompts: readonly Int32Array[]): { logits: Tensor; selected: boolean[][][] } {
    const [first] = prompts as [Int32Array];
    const sameLength = prompts.every(({ length }) => length === first.length);
    const batches = sameLength ? [prompts] : prompts.map((prompt) => [prompt]);
    const read = batches.map((batch) => this.readPrompts(batch));
    const logits = scope(() => {
      this.model.tree.blocks.forEach((_, i) => {
        const states = read.map((part) => part.states[i] as BlockState);
        const parts = states.map(({ cache }) => cache);
        const slots = Math.max(...parts.map(({ kv }) => kv.shape[1] as number));
        const lengths = Int32Array.from(parts.flatMap((part) => [...part.lengths]));
        this.caches.push({ kv: keep(concat(parts.map(({ kv }) => widened(kv, slots)))), lengths });
        this.fillSlots(
          i,
          states.flatMap(({ chosen }) => [...chosen]),
        );
      });
      return concat(read.map((part) => part.logits));
    });
    for (const { logits, states } of read) {
      logits.dispose();
      for (const { cache } of states) cache.kv.dispose();
    }
    prompts.forEach(({ length }, i) => {
      this.positions[i] = length;
    });
    return { logits, selected: read.flatMap((part) => part.selected) };
  }

  /** One more token for every sequence. tokens [S] */
  step(tokens: Int32Array): DecoderStep {
    const selected: boolean[][] = [];
    const logits = scope(() => {
      const { tree } = this.model;
      const positions = tensor2d(this.positions, [1, this.sequences], 'int32');
      let x = embedding(null, tree.tokenEmbedding, tensor2d(tokens, [1, this.sequences], 'int32'));
      tree.blocks.forEach((block, i) => {
        const before = x;
        x = scope(() =>
          block.routed === null
            ? this.dense(before, i, block, positions)
            : this.routed(before, i, block, selected),
        );
      });
      const head = tree.lmHead ?? tree.tokenEmbedding;
      const normed = rmsNorm(null, x, tree.finalNorm);
      return reshape(linear(null, normed, head, this.model.multipliers.logits), [this.sequences, -1]);
    });
    for (let i = 0; i < this.sequences; i++) this.positions[i] = (this.positions[i] as number) + 1;
    return { logits, selected };
  }

  cacheBytes(): CacheBytes {
    const slots = this.caches.map(({ kv }) => kv.shape[1] as number);
    return cacheBytes(this.state(), slots, this.model.config.d_model);
  }

  /** The state after the tokens so far, from which a loop on the device starts. The decoder still owns the tensors. */
  state(): DecoderState {
    return { positions: this.positions, caches: this.caches };
  }

  dispose(): void {
    for (const { kv } of this.caches) kv.dispose();
    this.caches.length = 0;
  }

  /** A full forward pass over prompts of one length: the logits after their last tokens [S, V], and the blocks' states. */
  private readPrompts(prompts: readonly Int32Array[]): {
    logits: Tensor;
    states: BlockState[];
    selected: boolean[][][];
  } {
    const [sequences, n] = [prompts.length, (prompts[0] as Int32Array).length];
    const { d_model } = this.model.config;
    const caches = new Map<number, BlockCache>();
    let selected: boolean[][][] = [];
    let chosen: Int32Array[] = [];
    const logits = scope(() => {
      const ids = Int32Array.from(prompts.flatMap((prompt) => [...prompt]));
      const forward = () =>
        this.model.forward(tensor2d(ids, [sequences, n], 'int32'), {
          tape: null,
          mode: this.mode,
          drawn: null,
          onlyLast: true,
          onKeys: (block, qkv, selected) => {
            const lengths = selected ?? prompts.map(() => n);
            const slots = this.slotsOf(block, Math.max(...lengths));
            const kv = keep(prefillCacheKernel({ qkv }, { lengths, slots })[0]);
            caches.set(block, { kv, lengths: Int32Array.from(lengths) });
          },
        });
      const result = varyingShapes(forward); // prompts have any length
      selected = prompts.map((_, i) =>
        result.routed.map(({ mask }) =>
          Array.from(mask.dataSync().subarray(i * n, (i + 1) * n), (value) => value === 1),
        ),
      );
      chosen = result.experts.map((trace) => this.choiceCounts(trace));
      return reshape(result.logits, [sequences, -1]);
    });
    // onKeys is not called for a routed block that selects no token. Its zeros are copied from the host, so the cache is small.
    const empty = (i: number): BlockCache => ({
      kv: keep(zeros([sequences, this.slotsOf(i, 0), 2 * d_model])),
      lengths: new Int32Array(sequences),
    });
    const states = this.model.tree.blocks.map((_, i) => ({
      cache: caches.get(i) ?? empty(i),
      chosen: chosen[i] ?? new Int32Array(0),
    }));
    return { logits, states, selected };
  }

  /** Tokens of each sequence that made each choice: [sequences, choices] */
  private choiceCounts({ counts }: ExpertTrace): Int32Array {
    const sequences = counts.shape[1] as number;
    const { experts } = this.model.config;
    const choices = experts === null ? 0 : expertChoices(experts);
    const values = counts.dataSync();
    return Int32Array.from(
      { length: sequences * choices },
      (_, i) => values[(i % choices) * sequences + Math.floor(i / choices)] as number,
    );
  }

  /** Marks the slots of a block's experts that the prompts have filled. */
  private fillSlots(block: number, chosen: number[]): void {
    const experts = this.model.expertsOf(block);
    if (experts === null) return;
    const occupancy = new ExpertOccupancy(experts.config, experts.slots, this.sequences);
    occupancy.chosen.set(chosen);
    this.occupancies.push(occupancy);
  }

  /** Slots of a sequence in a block's cache: in a routed block its capacity's share and SLACK_TOKENS. */
  private slotsOf(block: number, atLeast: number): number {
    const { routing } = this.model.config;
    if (this.model.tree.blocks[block]?.routed === null || routing === null) return this.maxTokens;
    const expected = Math.ceil(routing.capacity * this.maxTokens) + SLACK_TOKENS;
    return Math.min(this.maxTokens, Math.max(expected, atLeast + SLACK_TOKENS));
  }

  private dense(x: Tensor, i: number, block: BlockParameters, positions: Tensor): Tensor {
    const all = Array.from({ length: this.sequences }, (_, row) => row);
    return this.branch(x, i, block, positions, all, 'middle');
  }

  /** Equation 1 for one token of each sequence (see routedBlock). x [1, S, D] → [1, S, D] */
  private routed(x: Tensor, i: number, block: BlockParameters, selected: boolean[][]): Tensor {
    const model = this.model.config;
    const { routing } = model;
    if (routing === null) throw new Error('a dense model has no routed block');
    const parameters = block.routed as RoutedParameters;
    const { predictor } = parameters;
    const stream = { x, branch: null };
    const input = { model, routing, tape: null, stream, parameters, block: i, drawn: null };
    const [, r] = ROUTERS[routing.router].weights(input); // [1, S]
    const predicted =
      predictor !== null && MODES[this.mode].runsPredictor ? predictorLogits(x, predictor) : null;
    const deciders = { r, predictor: predicted, threshold: this.model.thresholdOf(i) };
    const { logits, above } = decisionOf(this.mode, deciders);
    const mask = Array.from(logits.dataSync(), (logit) => logit > above);
    selected.push(mask);
    const rows = mask.flatMap((isSelected, row) => (isSelected ? [row] : []));
    if (rows.length === 0) return x.clone();
    const indices = tensor2d(rows, [1, rows.length], 'int32');
    const own = tensor2d(
      rows.map((row) => this.positions[row] as number),
      [1, rows.length],
      'int32',
    );
    const added = this.branch(gatherTokens(null, x, indices), i, block, own, rows, 'attention'); // [1, b, D]
    return gatedScatterAdd(null, x, added, r, indices, routing.gate);
  }

  /**
   * Attention and MLP of a block for one new token of each of the sequences `rows`; the tokens' keys and values are cached.
   * The MLP's output is added to `attention`, or to `middle` = x + attention. x [1, b, D] → [1, b, D]
   */
  private branch(
    x: Tensor,
    i: number,
    block: BlockParameters,
    positions: Tensor,
    rows: number[],
    to: 'attention' | 'middle',
  ): Tensor {
    const { residual: residualMultiplier } = this.model.multipliers;
    const context = { tape: null, experts: this.model.expertsOf(i), residualMultiplier };
    const half = attentionHalf(context, x, block, (projected) => {
      const [qkv] = rotaryKernel({ qkv: projected, table: this.model.table, positions }, {});
      return this.attend(i, qkv, rows);
    });
    const assign = () => (this.occupancies[i] as ExpertOccupancy).assign(rows);
    return addMlp(context, half[to], half.normed, block, i, assign).x;
  }

  /** Attention of new tokens to their sequences' caches, to which it appends them. qkv [1, b, 3D] → [1, b, D] */
  private attend(i: number, qkv: Tensor, rows: number[]): Tensor {
    const cache = this.caches[i] as BlockCache;
    this.grow(cache, rows);
    const lengths = rows.map((row) => cache.lengths[row] as number);
    const [out, next] = decodeAttentionKernel(
      { qkv, cache: cache.kv, rows: tensor1d(rows, 'int32'), lengths: tensor1d(lengths, 'int32') },
      { heads: this.model.config.n_heads },
    );
    cache.kv.dispose();
    cache.kv = keep(next);
    for (const row of rows) cache.lengths[row] = (cache.lengths[row] as number) + 1;
    return out;
  }

  /** Enlarges a cache if one of the sequences `rows` has no free slot. */
  private grow(cache: BlockCache, rows: number[]): void {
    const slots = cache.kv.shape[1] as number;
    if (rows.every((row) => (cache.lengths[row] as number) < slots)) return;
    const larger = Math.min(this.maxTokens, Math.ceil(slots * GROWTH));
    if (larger === slots)
      throw new RangeError(`a sequence is longer than the decoder's ${this.maxTokens} tokens`);
    const grown = keep(widened(cache.kv, larger));
    cache.kv.dispose();
    cache.kv = grown;
  }
}

/**
 * The sizes of the caches of a decoder.
 *
 * @param slots slots per sequence, one entry per cache
 * @param width the model's D
 */
export function cacheBytes(
  { positions, caches }: { positions: Int32Array; caches: Pick<BlockCache, 'lengths'>[] },
  slots: number[],
  width: number,
): CacheBytes {
  const perToken = 2 * width * 4;
  const tokens = (lengths: Int32Array) => lengths.reduce((sum, length) => sum + length, 0);
  const used = caches.reduce((sum, { lengths }) => sum + tokens(lengths), 0) * perToken;
  const allocated = slots.reduce((sum, count) => sum + count, 0) * positions.length * perToken;
  return { used, allocated, dense: caches.length * tokens(positions) * perToken };
}

/** A cache [S, L, 2D] enlarged to [S, slots, 2D]; the same tensor if L = slots. */
function widened(kv: Tensor, slots: number): Tensor {
  const [sequences, own, width] = kv.shape as [number, number, number];
  return own === slots ? kv : concat([kv, zeros([sequences, slots - own, width])], 1);
}
