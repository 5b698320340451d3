/**
 * The decoding loop that a backend may offer: it runs consecutive decoding steps on the device (blocks, routing decisions,
 * caches and sampling) without returning to the host between them.
 */
import type { Tensor } from '@tensorflow/tfjs-core';
import type { Gate } from './gates.js';

/** The weights of a block, in the layout of the model's parameters. */
export interface LoopBlock {
  attnNorm: Tensor;
  qkv: Tensor;
  attnOut: Tensor;
  mlpNorm: Tensor;
  up: Tensor;
  down: Tensor;
  /** Null for a dense block. */
  routed: {
    router: Tensor;
    /** Decides the routing; null if the router's weight does. */
    predictor: { fc1: Tensor; fc1Bias: Tensor; fc2: Tensor; fc2Bias: Tensor } | null;
    /** A token is selected if what decides is above this number; 0 if absent. */
    above?: number;
  } | null;
}

export interface LoopModel {
  tokenEmbedding: Tensor;
  blocks: LoopBlock[];
  finalNorm: Tensor;
  /** The output head [V, D]; the token embedding if tied. */
  head: Tensor;
  /** The rotary table: [positions, K]. */
  table: Tensor;
  heads: number;
  /** Factor of the outputs of attention and MLP. */
  residualMultiplier: number;
  /** Factor of the logits. */
  logitsMultiplier: number;
  gate: Gate;
  /** Maximum number of tokens of a sequence. */
  maxTokens: number;
}

/** A block's cached keys and values. */
export interface LoopCache {
  /** [S, L, 2D], the output of PrefillCache. */
  kv: Tensor;
  /** Cached tokens of each sequence: [S]. */
  lengths: Int32Array;
}

export interface LoopStart {
  /** The next input token of each sequence: [S]. */
  tokens: Int32Array;
  /** The positions of these tokens: [S]. */
  positions: Int32Array;
  /** One per block. The caller keeps ownership of them. */
  caches: LoopCache[];
  /** Sampling parameters, as in `sample` of src/eval/generate.ts. */
  temperature: number;
  topP: number;
}

/** The results of a number of steps. */
export interface LoopSteps {
  /** The sampled tokens: [steps, S]. */
  tokens: Int32Array;
  /** [steps, routed blocks, S]: 1 if the step's input token was processed by the block, else 0. */
  mask: Int32Array;
}

export interface DecodeLoop {
  /** Resolves when the loop has prepared its weights and caches. */
  ready(): Promise<void>;
  /**
   * Queues a step for each row of `uniforms` [steps, S], numbers in (0, 1) that select the sampled tokens. Several calls may
   * be pending; each resolves when its steps are done.
   */
  run(uniforms: Float64Array): Promise<LoopSteps>;
  /** The logits of the last step: [S, V]. The caller disposes them. */
  logits(): Tensor;
  /** For each block: the cached tokens of each sequence after the completed steps, and how many fit. */
  caches(): { lengths: Int32Array; slots: number }[];
  dispose(): void;
}

export interface DecodeLoops {
  /** Why this model cannot run for this many sequences; null if it can. */
  problem(model: LoopModel, sequences: number): string | null;
  /** The model must stay unchanged until the loop is disposed. */
  start(model: LoopModel, start: LoopStart): DecodeLoop;
}
