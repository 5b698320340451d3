/** Step-by-step decoding: every block keeps the keys and values of the tokens that went through it, and of no others. */
import { concat, keep, reshape, slice, type Tensor, tensor1d, tensor2d, zeros } from '@tensorflow/tfjs-core';
import { decodeAttentionKernel } from '../ops/decode-attention.js';
import { embedding } from '../ops/embedding.js';
import { gatedScatterAdd } from '../ops/gated-scatter-add.js';
import { gatherTokens } from '../ops/gather-tokens.js';
import { linear } from '../ops/linear.js';
import { predictorLogits } from '../ops/predictor-logits.js';
import { prefillCacheKernel } from '../ops/prefill-cache.js';
import { rmsNorm } from '../ops/rms-norm.js';
import { rotaryKernel } from '../ops/rotary.js';
import { routerLogits } from '../ops/router-logits.js';
import { scope } from '../ops/scope.js';
import { addMlp, attentionHalf } from './block.js';
import { expertChoices, type RoutingMode } from './config.js';
import { ExpertOccupancy, type ExpertTrace } from './experts.js';
import type { BlockParameters, RoutedParameters } from './parameters.js';
import type { Transformer } from './transformer.js';

/** Keys and values of one block. */
export interface BlockCache {
  /** [S, L, 2D] */
  kv: Tensor;
  /** Tokens of each sequence that it holds. */
  lengths: Int32Array;
}

/** What reading prompts leaves of one block. */
interface BlockState {
  cache: BlockCache;
  /** [sequences, choices], as ExpertOccupancy has it; none without experts. */
  chosen: Int32Array;
}

/** Bytes of keys and values in float32: in use, allocated, and in use by a dense model of the same tokens. */
export interface CacheBytes {
  used: number;
  allocated: number;
  dense: number;
}

export interface DecoderState {
  /** Of each sequence's next token. */
  positions: Int32Array;
  caches: BlockCache[];
}

export interface DecoderStep {
  /** For the next token of every sequence: [S, V]. The caller disposes it. */
  logits: Tensor;
  /** For each routed block, in order, whether each sequence's token went through. */
  engaged: boolean[][];
}

/** Room that a routed block's cache starts with beyond its capacity's share, and how much it grows by when full. */
const SLACK_TOKENS = 16;
const GROWTH = 1.5;

export class Decoder {
  private readonly caches: BlockCache[] = [];
  /** How full the experts of each block are; empty for a model without. */
  private readonly occupancies: ExpertOccupancy[] = [];
  private readonly positions: Int32Array;

  /**
   * @param mode `predictor` or `threshold`; a dense model takes either
   * @param sequences decoded side by side
   * @param maxTokens of a sequence, prompt and all: at most the model's sequence length
   */
  constructor(
    private readonly model: Transformer,
    private readonly mode: Exclude<RoutingMode, 'topk'>,
    private readonly sequences: number,
    private readonly maxTokens: number,
  ) {
    if (maxTokens > model.config.sequence_length) {
      throw new RangeError(`${maxTokens} tokens are more than the model's ${model.config.sequence_length}`);
    }
    this.positions = new Int32Array(sequences);
  }

  /**
   * Reads the prompts, one a sequence, each of at least one token: in one forward pass where they are of one length.
   * Returns what follows their last tokens, and for each prompt which of its tokens went through which routed block:
   * [sequence][routed block][token].
   */
  prefill(prompts: readonly Int32Array[]): { logits: Tensor; engaged: boolean[][][] } {
    const [first] = prompts as [Int32Array];
    const alike = prompts.every(({ length }) => length === first.length);
    const batches = alike ? [prompts] : prompts.map((prompt) => [prompt]);
    const read = batches.map((batch) => this.readPrompts(batch));
    const logits = scope(() => {
      this.model.tree.blocks.forEach((_, i) => {
        const states = read.map((part) => part.states[i] as BlockState);
        const parts = states.map(({ cache }) => cache);
        const slots = Math.max(...parts.map(({ kv }) => kv.shape[1] as number));
        const lengths = Int32Array.from(parts.flatMap((part) => [...part.lengths]));
        this.caches.push({ kv: keep(concat(parts.map(({ kv }) => widened(kv, slots)))), lengths });
        this.seat(
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
    return { logits, engaged: read.flatMap((part) => part.engaged) };
  }

  /** One more token for every sequence. tokens [S] */
  step(tokens: Int32Array): DecoderStep {
    const engaged: boolean[][] = [];
    const logits = scope(() => {
      const { tree } = this.model;
      const positions = tensor2d(this.positions, [1, this.sequences], 'int32');
      let x = embedding(null, tree.tokenEmbedding, tensor2d(tokens, [1, this.sequences], 'int32'));
      tree.blocks.forEach((block, i) => {
        const before = x;
        x = scope(() =>
          block.routed === null
            ? this.dense(before, i, block, positions)
            : this.routed(before, i, block, engaged),
        );
      });
      const head = tree.lmHead ?? tree.tokenEmbedding;
      return reshape(linear(null, rmsNorm(null, x, tree.finalNorm), head), [this.sequences, -1]);
    });
    for (let i = 0; i < this.sequences; i++) this.positions[i] = (this.positions[i] as number) + 1;
    return { logits, engaged };
  }

  cacheBytes(): CacheBytes {
    const rooms = this.caches.map(({ kv }) => kv.shape[1] as number);
    return cacheBytes(this.state(), rooms, this.model.config.d_model);
  }

  /** Where it stands: what a loop on the device begins with. The decoder keeps the tensors. */
  state(): DecoderState {
    return { positions: this.positions, caches: this.caches };
  }

  dispose(): void {
    for (const { kv } of this.caches) kv.dispose();
    this.caches.length = 0;
  }

  /** A full forward pass over prompts of one length: what follows their last tokens, [S, V], and the blocks' caches. */
  private readPrompts(prompts: readonly Int32Array[]): {
    logits: Tensor;
    states: BlockState[];
    engaged: boolean[][][];
  } {
    const [sequences, n] = [prompts.length, (prompts[0] as Int32Array).length];
    const { d_model, vocab_size } = this.model.config;
    const told = new Map<number, BlockCache>();
    let engaged: boolean[][][] = [];
    let chosen: Int32Array[] = [];
    const logits = scope(() => {
      const ids = Int32Array.from(prompts.flatMap((prompt) => [...prompt]));
      const result = this.model.forward(tensor2d(ids, [sequences, n], 'int32'), {
        tape: null,
        mode: this.mode,
        noise: null,
        onKeys: (block, qkv, packed) => {
          const lengths = packed ?? prompts.map(() => n);
          const slots = this.slotsOf(block, Math.max(...lengths));
          const kv = keep(prefillCacheKernel({ qkv }, { lengths, slots })[0]);
          told.set(block, { kv, lengths: Int32Array.from(lengths) });
        },
      });
      engaged = prompts.map((_, i) =>
        result.routed.map(({ mask }) =>
          Array.from(mask.dataSync().subarray(i * n, (i + 1) * n), (value) => value === 1),
        ),
      );
      chosen = result.experts.map((trace) => this.chosenBy(trace));
      return reshape(slice(result.logits, [0, n - 1, 0], [sequences, 1, vocab_size]), [sequences, -1]);
    });
    // A routed block through which no token went has nothing to tell. Zeros come from the host: no more than needed.
    const empty = (i: number): BlockCache => ({
      kv: keep(zeros([sequences, this.slotsOf(i, 0), 2 * d_model])),
      lengths: new Int32Array(sequences),
    });
    const states = this.model.tree.blocks.map((_, i) => ({
      cache: told.get(i) ?? empty(i),
      chosen: chosen[i] ?? new Int32Array(0),
    }));
    return { logits, states, engaged };
  }

  /** Tokens of each sequence that made each choice: [sequences, choices] */
  private chosenBy({ counts }: ExpertTrace): Int32Array {
    const sequences = counts.shape[1] as number;
    const { experts } = this.model.config;
    const choices = experts === null ? 0 : expertChoices(experts);
    const values = counts.dataSync();
    return Int32Array.from(
      { length: sequences * choices },
      (_, i) => values[(i % choices) * sequences + Math.floor(i / choices)] as number,
    );
  }

  /** Begins with what the prompts have taken of a block's experts. */
  private seat(block: number, chosen: number[]): void {
    const experts = this.model.expertsOf(block);
    if (experts === null) return;
    const occupancy = new ExpertOccupancy(experts.config, experts.slots, this.sequences);
    occupancy.chosen.set(chosen);
    this.occupancies.push(occupancy);
  }

  /** Tokens that a sequence's cache in a block can hold: in a routed block, its capacity's share and a margin. */
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

  private routed(x: Tensor, i: number, block: BlockParameters, engaged: boolean[][]): Tensor {
    const { router, predictor } = block.routed as RoutedParameters;
    const { routing } = this.model.config;
    if (router === null || routing === null) throw new Error('random routing has no causal form');
    const r = routerLogits(x, router); // [1, S]
    if (this.mode === 'predictor' && predictor === null) throw new Error('the model has no predictor');
    const logits = this.mode === 'predictor' && predictor !== null ? predictorLogits(x, predictor) : r;
    const takes = Array.from(logits.dataSync(), (logit) => logit > 0);
    engaged.push(takes);
    const rows = takes.flatMap((taken, row) => (taken ? [row] : []));
    if (rows.length === 0) return x.clone();
    const indices = tensor2d(rows, [1, rows.length], 'int32');
    const own = tensor2d(
      rows.map((row) => this.positions[row] as number),
      [1, rows.length],
      'int32',
    );
    const added = this.branch(gatherTokens(null, x, indices), i, block, own, rows, 'attention');
    return gatedScatterAdd(null, x, added, r, indices, routing.gate);
  }

  /**
   * What a block makes of new tokens of the sequences `rows`, whose keys and values its cache takes: its MLP's output added
   * to its attention's, or to that and x. x [1, b, D]
   */
  private branch(
    x: Tensor,
    i: number,
    block: BlockParameters,
    positions: Tensor,
    rows: number[],
    to: 'attention' | 'middle',
  ): Tensor {
    const context = { tape: null, experts: this.model.expertsOf(i) };
    const half = attentionHalf(null, x, block, (projected) => {
      const [qkv] = rotaryKernel({ qkv: projected, table: this.model.table, positions }, {});
      return this.attend(i, qkv, rows);
    });
    const assign = () => (this.occupancies[i] as ExpertOccupancy).assign(rows);
    return addMlp(context, half[to], half.normed, block, i, assign).x;
  }

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

  private grow(cache: BlockCache, rows: number[]): void {
    const slots = cache.kv.shape[1] as number;
    if (rows.every((row) => (cache.lengths[row] as number) < slots)) return;
    const larger = Math.min(this.maxTokens, Math.ceil(slots * GROWTH));
    if (larger === slots) throw new RangeError(`the decoder was made for ${this.maxTokens} tokens`);
    const grown = keep(widened(cache.kv, larger));
    cache.kv.dispose();
    cache.kv = grown;
  }
}

/** Bytes of caches that can hold `slots` tokens of each sequence, one number for each block. */
export function cacheBytes(
  { positions, caches }: { positions: Int32Array; caches: Pick<BlockCache, 'lengths'>[] },
  slots: number[],
  width: number,
): CacheBytes {
  const perToken = 2 * width * 4;
  const tokens = (lengths: Int32Array) => lengths.reduce((sum, length) => sum + length, 0);
  const used = caches.reduce((sum, { lengths }) => sum + tokens(lengths), 0) * perToken;
  const allocated = slots.reduce((sum, each) => sum + each, 0) * positions.length * perToken;
  return { used, allocated, dense: caches.length * tokens(positions) * perToken };
}

/** A cache [S, L, 2D] widened to hold `slots` tokens; the tensor itself if it already does. */
function widened(kv: Tensor, slots: number): Tensor {
  const [sequences, own, width] = kv.shape as [number, number, number];
  return own === slots ? kv : concat([kv, zeros([sequences, slots - own, width])], 1);
}
