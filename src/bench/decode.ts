/** Times decoding of one shape on the active backend: prefill of a prompt, then one new token per step. */
import { keep, tensor1d, tensor2d } from '@tensorflow/tfjs-core';
import { generate } from '../eval/generate.js';
import type { ModelConfig } from '../model/config.js';
import { initialValues } from '../model/parameters.js';
import { Transformer } from '../model/transformer.js';
import type { DecodeLoops } from '../ops/decode-loop.js';
import { scope } from '../ops/scope.js';
import { randomStream } from '../random.js';
import { mean, median } from '../statistics.js';
import { repeatingValues } from './values.js';

export interface DecodeMeasurement {
  /** Time of one decoding step in milliseconds, median over repetitions. */
  stepMs: number;
  /** New tokens per second, over all sequences. */
  tokensPerSecond: number;
  prefillMs: number;
  /** Share of tokens that routed blocks process, mean over blocks; null for a dense model. */
  participation: number | null;
  /** Bytes of keys and values in the caches at the end, and those of the dense model. */
  cacheBytes: number;
  denseCacheBytes: number;
}

export interface DecodeOptions {
  sequences: number;
  promptTokens: number;
  newTokens: number;
  repetitions: number;
  /** As in the options of `generate`. */
  loops: DecodeLoops | null;
}

/** Decodes with random weights; the predictors are calibrated to select the capacity's share of tokens. */
export async function measureDecode(model: ModelConfig, options: DecodeOptions): Promise<DecodeMeasurement> {
  const { sequences, promptTokens, newTokens } = options;
  const transformer = new Transformer(model, repeatingValues(initialValues(0)));
  calibratePredictors(transformer, promptTokens);
  const prompts = Array.from({ length: sequences }, (_, i) => randomTokens(model, promptTokens, i));
  const request = {
    mode: 'predictor' as const,
    tokens: newTokens,
    temperature: 1, // greedy decoding of random weights soon repeats one token
    topP: 1,
    seed: 0,
    loops: options.loops,
    now: () => performance.now(),
  };
  await generate(transformer, prompts, { ...request, tokens: 4 }); // warm-up
  const runs = [];
  for (let i = 0; i < options.repetitions; i++) runs.push(await generate(transformer, prompts, request));
  transformer.dispose();
  const [first] = runs as [(typeof runs)[number]];
  const stepMs = median(runs.map(({ decodeMs }) => decodeMs / (newTokens - 1)));
  const decisions = first.selected.flatMap((tokens) => tokens.slice(promptTokens)).flat();
  return {
    stepMs,
    tokensPerSecond: (sequences * 1000) / stepMs,
    prefillMs: median(runs.map(({ prefillMs }) => prefillMs)),
    participation: decisions.length === 0 ? null : mean(decisions.map(Number)),
    cacheBytes: first.cacheBytes.used,
    denseCacheBytes: first.cacheBytes.dense,
  };
}

/** Number of sequences that calibrate a predictor's threshold; with one, the share is off by 10% or more. */
const CALIBRATION_SEQUENCES = 8;

/** Shifts every predictor's last bias so that the capacity's share of its logits on random tokens is above 0. */
function calibratePredictors(transformer: Transformer, length: number): void {
  const { config, tree } = transformer;
  if (config.routing === null) return;
  const { capacity } = config.routing;
  for (const [index, block] of tree.blocks.entries()) {
    const bias = block.routed?.predictor?.fc2Bias;
    if (bias === undefined) continue;
    const logits = scope(() => {
      const drawn = randomTokens(config, CALIBRATION_SEQUENCES * length, -1);
      const tokens = tensor2d(drawn, [CALIBRATION_SEQUENCES, length], 'int32');
      const { routed } = transformer.forward(tokens, { tape: null, mode: 'predictor', drawn: null });
      const trace = routed.find((candidate) => candidate.block === index);
      return Float32Array.from(trace?.predictor?.dataSync() ?? []).sort();
    });
    const threshold = logits[Math.floor((1 - capacity) * logits.length)] ?? 0;
    const [old] = bias.value.dataSync();
    bias.value.dispose();
    bias.value = keep(tensor1d([(old as number) - threshold]));
  }
}

function randomTokens(model: ModelConfig, count: number, sequence: number): Int32Array {
  const stream = randomStream(0, 'bench', 'decode', sequence);
  return Int32Array.from({ length: count }, () => stream.bits() % model.vocab_size);
}
