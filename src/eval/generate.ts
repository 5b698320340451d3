/** Generating text: prompts in, tokens out, one step at a time through a decoder. */
import { randomStream } from '../data/random.js';
import type { RoutingMode } from '../model/config.js';
import { Decoder } from '../model/decoder.js';
import type { Transformer } from '../model/transformer.js';

export interface GenerateOptions {
  mode: Exclude<RoutingMode, 'topk'>;
  /** New tokens for every prompt. */
  tokens: number;
  /** 0: always the likeliest token. */
  temperature: number;
  /** The smallest set of tokens whose probabilities sum to this is drawn from (Holtzman et al. 2020); 1: all. */
  topP: number;
  seed: number;
  /** Told of every new token as soon as it is known. */
  onToken?: (sequence: number, token: number) => void | Promise<void>;
  /** Milliseconds; injected in tests. */
  now: () => number;
}

export interface Generated {
  /** The new tokens of each prompt. */
  tokens: Int32Array[];
  /** [sequence][token][routed block]: whether the token went through; of prompt and new tokens, all but the last. */
  engaged: boolean[][][];
  prefillMs: number;
  decodeMs: number;
  cacheBytes: { used: number; allocated: number; dense: number };
}

/** Continues every prompt, side by side. Yields to the event loop between steps. */
export async function generate(
  model: Transformer,
  prompts: readonly Int32Array[],
  options: GenerateOptions,
): Promise<Generated> {
  const longest = Math.max(...prompts.map(({ length }) => length));
  const decoder = new Decoder(model, options.mode, prompts.length, longest + options.tokens);
  const streams = prompts.map((_, i) => randomStream(options.seed, 'generate', i));
  const tokens = prompts.map(() => new Int32Array(options.tokens));
  try {
    const started = options.now();
    const { logits, engaged } = decoder.prefill(prompts);
    // By token: a new one appends what every routed block did with it.
    const byToken = engaged.map((blocks, i) =>
      Array.from(prompts[i] as Int32Array, (_, t) => blocks.map((block) => block[t] as boolean)),
    );
    let scores = (await logits.data()) as Float32Array;
    logits.dispose();
    const prefilled = options.now();
    for (let step = 0; step < options.tokens; step++) {
      const size = scores.length / tokens.length;
      const next = Int32Array.from(streams, (stream, i) =>
        sample(scores.subarray(i * size, (i + 1) * size), options, () => stream.uniform()),
      );
      for (const [i, row] of tokens.entries()) {
        row[step] = next[i] as number;
        await options.onToken?.(i, next[i] as number);
      }
      if (step === options.tokens - 1) break; // nobody asks what follows the last
      const result = decoder.step(next);
      scores = (await result.logits.data()) as Float32Array;
      result.logits.dispose();
      byToken.forEach((row, i) => {
        row.push(result.engaged.map((block) => block[i] as boolean));
      });
      await new Promise((resolve) => setImmediate(resolve));
    }
    return {
      tokens,
      engaged: byToken,
      prefillMs: prefilled - started,
      decodeMs: options.now() - prefilled,
      cacheBytes: decoder.cacheBytes(),
    };
  } finally {
    decoder.dispose();
  }
}

/**
 * A token drawn from softmax(logits / temperature), cut to the likeliest ones that together reach `topP`.
 *
 * @param uniform a number in (0, 1); asked for once, and not at all for temperature 0
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
  const order = Array.from(weights.keys());
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
