/** Decoding whose steps run on the device alone, many at a time, where the backend has a loop for that. */
import type { DecodeLoop, DecodeLoops, LoopBlock, LoopModel } from '../ops/decode-loop.js';
import type { Parameter } from '../ops/tape.js';
import { type RoutingMode, routedBlockCount } from './config.js';
import { type CacheBytes, cacheBytes, type DecoderState } from './decoder.js';
import type { BlockParameters, RoutedParameters } from './parameters.js';
import type { Transformer } from './transformer.js';

type CausalMode = Exclude<RoutingMode, 'topk'>;

/**
 * Why steps of this model cannot run in the backend's loop, so that they are to be queued op by op by a Decoder; null
 * where they can. Experts are not part of any loop yet.
 */
export function refuseLoop(
  model: Transformer,
  mode: CausalMode,
  loops: DecodeLoops,
  sequences: number,
  maxTokens: number,
): string | null {
  if (model.config.experts !== null) return 'a model of experts is decoded op by op';
  return loops.refuses(loopModel(model, mode, maxTokens), sequences);
}

/** What a step did with the tokens that it read, and those that it drew. */
export interface LoopStep {
  /** [S] */
  tokens: Int32Array;
  /** [routed block][sequence] */
  engaged: boolean[][];
}

/** Goes on where a Decoder has read the prompts. */
export class LoopDecoder {
  private readonly loop: DecodeLoop;
  private readonly positions: Int32Array;

  /** @param tokens the first to be read: drawn from what the prompts left */
  constructor(
    private readonly model: Transformer,
    mode: CausalMode,
    loops: DecodeLoops,
    { positions, caches }: DecoderState,
    maxTokens: number,
    tokens: Int32Array,
    { temperature, topP }: { temperature: number; topP: number },
  ) {
    this.positions = Int32Array.from(positions);
    const start = { tokens, positions, caches, temperature, topP };
    this.loop = loops.start(loopModel(model, mode, maxTokens), start);
  }

  /** Resolves when the loop has what it needs. */
  ready(): Promise<void> {
    return this.loop.ready();
  }

  /** A step for each row of numbers in (0, 1), [steps, S], that the tokens are drawn with. */
  async run(uniforms: Float64Array): Promise<LoopStep[]> {
    const S = this.positions.length;
    const routed = routedBlockCount(this.model.config);
    const { tokens, mask } = await this.loop.run(uniforms);
    const steps = uniforms.length / S;
    for (let s = 0; s < S; s++) this.positions[s] = (this.positions[s] as number) + steps;
    return Array.from({ length: steps }, (_, step) => ({
      tokens: tokens.slice(step * S, (step + 1) * S),
      engaged: Array.from({ length: routed }, (_, block) =>
        Array.from({ length: S }, (_, s) => mask[(step * routed + block) * S + s] === 1),
      ),
    }));
  }

  cacheBytes(): CacheBytes {
    const caches = this.loop.caches();
    const slots = caches.map((cache) => cache.slots);
    return cacheBytes({ positions: this.positions, caches }, slots, this.model.config.d_model);
  }

  dispose(): void {
    this.loop.dispose();
  }
}

function loopModel({ config, tree, table }: Transformer, mode: CausalMode, maxTokens: number): LoopModel {
  return {
    tokenEmbedding: tree.tokenEmbedding.value,
    blocks: tree.blocks.map((block) => loopBlock(block, mode)),
    finalNorm: tree.finalNorm.value,
    head: (tree.lmHead ?? tree.tokenEmbedding).value,
    table,
    heads: config.n_heads,
    gate: config.routing?.gate ?? 'raw',
    maxTokens,
  };
}

function loopBlock(block: BlockParameters, mode: CausalMode): LoopBlock {
  const { attnNorm, qkv, attnOut, mlpNorm, up, down, routed } = block;
  return {
    ...valuesOf({ attnNorm, qkv, attnOut, mlpNorm, up, down }),
    routed: routed === null ? null : loopRouting(routed, mode),
  };
}

function loopRouting({ router, predictor }: RoutedParameters, mode: CausalMode): LoopBlock['routed'] {
  if (router === null) throw new Error('random routing has no causal form');
  if (mode === 'threshold') return { router: router.value, predictor: null };
  if (predictor === null) throw new Error('the model has no predictor');
  const { fc1, fc1Bias, fc2, fc2Bias } = predictor;
  return { router: router.value, predictor: valuesOf({ fc1, fc1Bias, fc2, fc2Bias }) };
}

function valuesOf<Name extends string>(parameters: Record<Name, Parameter>) {
  return Object.fromEntries(
    Object.entries<Parameter>(parameters).map(([name, { value }]) => [name, value]),
  ) as Record<Name, Parameter['value']>;
}
