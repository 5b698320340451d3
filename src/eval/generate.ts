/** Generation: continues prompts token by token through a decoder. */
import type { Tensor } from '@tensorflow/tfjs-core';
import type { CausalMode } from '../model/config.js';
import { type CacheBytes, Decoder } from '../model/decoder.js';
import { LoopDecoder, loopProblem } from '../model/loop-decoder.js';
import type { Transformer } from '../model/transformer.js';
import type { DecodeLoops } from '../ops/decode-loop.js';
import { type RandomStream, randomStream } from '../random.js';

export interface GenerateOptions {
  mode: CausalMode;
  /** Number of new tokens for every prompt. */
  tokens: number;
  /** Divides the logits; 0: always the most likely token. */
  temperature: number;
  /** Draw from the smallest set of tokens whose probabilities reach this sum (Holtzman et al. 2020); 1: from all. */
  topP: number;
  seed: number;
  /** Called for every new token, in order, as soon as the host has it. */
  onToken?: (sequence: number, token: number) => void | Promise<void>;
  /** The backend's loops on the device; absent or null: every step is queued op by op. */
  loops?: DecodeLoops | null;
  /** Clock in milliseconds; injected in tests. */
  now: () => number;
}

export interface Generated {
  /** The new tokens of each prompt. */
  tokens: Int32Array[];
  /** [sequence][token][routed block]: whether the block selected the token; prompt and new tokens, all but the last. */
  selected: boolean[][][];
  prefillMs: number;
  decodeMs: number;
  cacheBytes: CacheBytes;
}

/** Steps per call of the loop. Two calls are queued at a time, so a token arrives at most 32 steps late. */
const LOOP_STEPS = 16;

/**
 * Continues all prompts in parallel. Yields to the event loop between steps.
 *
 * @throws RangeError if a prompt and its new tokens exceed the model's sequence length
 */
export async function generate(
  model: Transformer,
  prompts: readonly Int32Array[],
  options: GenerateOptions,
): Promise<Generated> {
  const longest = Math.max(...prompts.map(({ length }) => length));
  const maxTokens = longest + options.tokens;
  const decoder = new Decoder(model, options.mode, prompts.length, maxTokens);
  const loops = options.loops ?? null;
  const inLoop =
    loops !== null && loopProblem(model, options.mode, loops, prompts.length, maxTokens) === null;
  let loop: LoopDecoder | null = null;
  try {
    const started = options.now();
    const { logits, selected } = decoder.prefill(prompts);
    const progress = new Progress(prompts, selected, options);
    await progress.draw(logits);
    if (inLoop) {
      loop = new LoopDecoder(
        model,
        options.mode,
        loops,
        decoder.state(),
        maxTokens,
        progress.last(),
        options,
      );
      decoder.dispose(); // the loop has copied its caches
      await loop.ready();
    }
    const prefilled = options.now();
    await progress.notify();
    if (loop !== null) await runLoop(loop, progress);
    else await runSteps(decoder, progress);
    return {
      tokens: progress.tokens,
      selected: progress.selected,
      prefillMs: prefilled - started,
      decodeMs: options.now() - prefilled,
      cacheBytes: (loop ?? decoder).cacheBytes(),
    };
  } finally {
    loop?.dispose();
    decoder.dispose();
  }
}

/** Generates step by step; each step is queued op by op once the previous token is known. */
async function runSteps(decoder: Decoder, progress: Progress): Promise<void> {
  while (progress.remaining() > 0) {
    const { logits, selected } = decoder.step(progress.last());
    progress.addSelection(selected);
    await progress.draw(logits);
    await progress.notify();
    await new Promise((resolve) => setImmediate(resolve));
  }
}

/** Generates several steps per call on the device; the next call is queued before the results of the last are read. */
async function runLoop(loop: LoopDecoder, progress: Progress): Promise<void> {
  let queued = 0;
  const all = progress.remaining();
  const pending: ReturnType<LoopDecoder['run']>[] = [];
  try {
    while (progress.remaining() > 0) {
      while (queued < all && pending.length < 2) {
        const steps = Math.min(LOOP_STEPS, all - queued);
        pending.push(loop.run(progress.uniforms(steps)));
        queued += steps;
      }
      for (const { tokens, selected } of (await pending.shift()) ?? []) {
        progress.addSelection(selected);
        progress.add(tokens);
        await progress.notify();
      }
    }
  } catch (error) {
    await Promise.allSettled(pending);
    throw error;
  }
}

/** The tokens generated so far, and which routed blocks selected them. */
class Progress {
  readonly tokens: Int32Array[];
  /** As in Generated. */
  readonly selected: boolean[][][];
  private readonly streams: RandomStream[];
  /** New tokens of each sequence so far. */
  private count = 0;

  constructor(
    prompts: readonly Int32Array[],
    selected: boolean[][][],
    private readonly options: GenerateOptions,
  ) {
    this.tokens = prompts.map(() => new Int32Array(options.tokens));
    // Token by token: a step appends one entry.
    this.selected = selected.map((blocks, i) =>
      Array.from(prompts[i] as Int32Array, (_, t) => blocks.map((block) => block[t] as boolean)),
    );
    this.streams = prompts.map((_, i) => randomStream(options.seed, 'generate', i));
  }

  /** Tokens of each sequence that are still to be generated. */
  remaining(): number {
    return this.options.tokens - this.count;
  }

  /** The newest token of each sequence. */
  last(): Int32Array {
    return Int32Array.from(this.tokens, (row) => row[this.count - 1] as number);
  }

  /** Draws the next tokens from the logits [S, V] after the last ones, and disposes them. */
  async draw(logits: Tensor): Promise<void> {
    const scores = (await logits.data()) as Float32Array;
    logits.dispose();
    const size = scores.length / this.tokens.length;
    this.add(
      Int32Array.from(this.streams, (stream, i) =>
        sample(scores.subarray(i * size, (i + 1) * size), this.options, () => stream.uniform()),
      ),
    );
  }

  /** Uniform random numbers in (0, 1) that select the tokens of the next steps: [steps, S]. */
  uniforms(steps: number): Float64Array {
    return Float64Array.from({ length: steps * this.streams.length }, (_, i) =>
      (this.streams[i % this.streams.length] as RandomStream).uniform(),
    );
  }

  /** Adds the next token of each sequence. next [S] */
  add(next: Int32Array): void {
    this.tokens.forEach((row, i) => {
      row[this.count] = next[i] as number;
    });
    this.count += 1;
  }

  /** Records which blocks selected the tokens that a step read. selected [routed block][sequence] */
  addSelection(selected: boolean[][]): void {
    this.selected.forEach((row, i) => {
      row.push(selected.map((block) => block[i] as boolean));
    });
  }

  /** Calls `onToken` for the newest tokens. */
  async notify(): Promise<void> {
    for (const [i, token] of this.last().entries()) await this.options.onToken?.(i, token);
  }
}

/**
 * Draws a token from softmax(logits / temperature), restricted to the likeliest tokens that together reach `topP`. logits [V]
 *
 * @param uniform returns a number in (0, 1); called once, and not at all for temperature 0
 */
export function sample(
  logits: Float32Array,
  { temperature, topP }: Pick<GenerateOptions, 'temperature' | 'topP'>,
  uniform: () => number,
): number {
  let best = 0;
  for (let i = 1; i < logits.length; i++) if ((logits[i] as number) > (logits[best] as number)) best = i;
  if (temperature === 0) return best;
  const weights = Float64Array.from(logits, (logit) =>
    Math.exp((logit - (logits[best] as number)) / temperature),
  );
  const order = Uint32Array.from(weights, (_, i) => i);
  if (topP < 1) order.sort((a, b) => (weights[b] as number) - (weights[a] as number) || a - b);
  const total = weights.reduce((sum, weight) => sum + weight, 0);
  let [kept, mass] = [0, 0];
  while (kept < order.length && (kept === 0 || mass < topP * total)) {
    mass += weights[order[kept] as number] as number;
    kept += 1;
  }
  let left = uniform() * mass;
  for (let i = 0; i < kept; i++) {
    left -= weights[order[i] as number] as number;
    if (left < 0) return order[i] as number;
  }
  return order[kept - 1] as number;
}
