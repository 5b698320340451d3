/**
 * What a backend offers that can run decoding steps one after another on the device, each with what the one before it
 * drew: blocks, routing decisions, caches and sampling, with no host in between.
 */
import type { Tensor } from '@tensorflow/tfjs-core';
import type { Gate } from './gates.js';

/** Weights of a block, as the model's parameters have them. */
export interface LoopBlock {
  attnNorm: Tensor;
  qkv: Tensor;
  attnOut: Tensor;
  mlpNorm: Tensor;
  up: Tensor;
  down: Tensor;
  /** Null in a dense block. */
  routed: {
    router: Tensor;
    /** What decides; null where the router's weight does. */
    predictor: { fc1: Tensor; fc1Bias: Tensor; fc2: Tensor; fc2Bias: Tensor } | null;
  } | null;
}

export interface LoopModel {
  tokenEmbedding: Tensor;
  blocks: LoopBlock[];
  finalNorm: Tensor;
  /** Of the logits; the embedding's where it serves. */
  head: Tensor;
  /** Of the rotary positions: [.., K]. */
  table: Tensor;
  heads: number;
  gate: Gate;
  /** Tokens of a sequence at most. */
  maxTokens: number;
}

/** Keys and values that a block has of each sequence. */
export interface LoopCache {
  /** [S, L, 2D], as PrefillCache leaves it. */
  kv: Tensor;
  /** Tokens of each sequence in it. */
  lengths: Int32Array;
}

export interface LoopStart {
  /** The token that each sequence goes on with: known, but not yet through the model. */
  tokens: Int32Array;
  /** Its position. */
  positions: Int32Array;
  /** One for each block. The caller keeps them. */
  caches: LoopCache[];
  /** As `sample` of src/eval/generate.ts has them. */
  temperature: number;
  topP: number;
}

/** What some steps did. */
export interface LoopSteps {
  /** The tokens drawn: [steps, S]. */
  tokens: Int32Array;
  /** [steps, routed blocks, S]: 1 where the token that a step read went through the block, else 0. */
  mask: Int32Array;
}

export interface DecodeLoop {
  /** Resolves when what it was started with has been laid out. */
  ready(): Promise<void>;
  /**
   * Queues a step for each row of `uniforms` [steps, S], numbers in (0, 1) that the tokens are drawn with. Several calls may
   * be under way; each resolves when its steps are done.
   */
  run(uniforms: Float64Array): Promise<LoopSteps>;
  /** What the last step's token was drawn from: [S, V]. The caller disposes it. */
  logits(): Tensor;
  /** For each block: the tokens of each sequence in its cache, as of the steps awaited so far, and how many fit. */
  caches(): { lengths: Int32Array; slots: number }[];
  dispose(): void;
}

export interface DecodeLoops {
  /** Why it cannot run this model for so many sequences; null where it can. */
  refuses(model: LoopModel, sequences: number): string | null;
  /** The model must neither change nor go before the loop is disposed. */
  start(model: LoopModel, start: LoopStart): DecodeLoop;
}
