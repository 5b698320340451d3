/** Decoding in a backend's loop: many steps in a row on the device, without the host between them. */
import type { DecodeLoop, DecodeLoops, LoopBlock, LoopModel } from '../ops/decode-loop.js';
import type { Parameter } from '../ops/tape.js';
import { type CausalMode, routedBlocks } from './config.js';
import { type CacheBytes, cacheBytes, type DecoderState } from './decoder.js';
import type { BlockParameters } from './parameters.js';
import type { RoutedParameters } from './routers.js';
import { MODES } from './routing-modes.js';
import type { Transformer } from './transformer.js';

/**
 * Why steps of this model cannot run in the backend's loop, so that a Decoder must queue them op by op; null if they can.
 * No loop supports experts.
 */
export function loopProblem(
  model: Transformer,
  mode: CausalMode,
  loops: DecodeLoops,
  sequences: number,
  maxTokens: number,
): string | null {
  if (model.config.experts !== null) return 'models with experts are decoded op by op';
  return loops.problem(loopModel(model, mode, maxTokens), sequences);
}

/** One step: the tokens that it drew, and the routing of those that it read. */
export interface LoopStep {
  /** [S] */
  tokens: Int32Array;
  /** [routed block][sequence]: whether the block selected the token that was read. */
  selected: boolean[][];
}

/** Continues from the state of a Decoder that has read the prompts. */
export class LoopDecoder {
  private readonly loop: DecodeLoop;
  private readonly positions: Int32Array;

  /** @param tokens [S], the loop's first input tokens, drawn from the prompts' logits */
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

  /** Resolves when the loop is ready to run. */
  ready(): Promise<void> {
    return this.loop.ready();
  }

  /** Runs one step for each row of uniforms [steps, S], numbers in (0, 1) with which the tokens are drawn. */
  async run(uniforms: Float64Array): Promise<LoopStep[]> {
    const S = this.positions.length;
    const routed = routedBlocks(this.model.config).length;
    const { tokens, mask } = await this.loop.run(uniforms);
    const steps = uniforms.length / S;
    for (let s = 0; s < S; s++) this.positions[s] = (this.positions[s] as number) + steps;
    return Array.from({ length: steps }, (_, step) => ({
      tokens: tokens.slice(step * S, (step + 1) * S),
      selected: Array.from({ length: routed }, (_, block) =>
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

function loopModel(model: Transformer, mode: CausalMode, maxTokens: number): LoopModel {
  const { config, tree, table, multipliers } = model;
  return {
    tokenEmbedding: tree.tokenEmbedding.value,
    blocks: tree.blocks.map((block, i) => loopBlock(block, mode, model.thresholdOf(i))),
    finalNorm: tree.finalNorm.value,
    head: (tree.lmHead ?? tree.tokenEmbedding).value,
    table,
    heads: config.n_heads,
    residualMultiplier: multipliers.residual,
    logitsMultiplier: multipliers.logits,
    gate: config.routing?.gate ?? 'raw',
    maxTokens,
  };
}

function loopBlock(block: BlockParameters, mode: CausalMode, threshold: number | null): LoopBlock {
  const { attnNorm, qkv, attnOut, mlpNorm, up, down, routed } = block;
  return {
    ...valuesOf({ attnNorm, qkv, attnOut, mlpNorm, up, down }),
    routed: routed === null ? null : loopRouting(routed, mode, threshold),
  };
}

function loopRouting(
  { router, predictor }: RoutedParameters,
  mode: CausalMode,
  threshold: number | null,
): LoopBlock['routed'] {
  if (router === null) throw new Error('a decode loop needs a learned router');
  const { selectsBy } = MODES[mode];
  switch (selectsBy) {
    case 'router':
      return { router: router.value, predictor: null };
    case 'quantile':
      if (threshold === null) throw new Error(`the mode "${mode}" needs thresholds`);
      return { router: router.value, predictor: null, above: threshold };
    case 'predictor': {
      if (predictor === null) throw new Error('the model has no predictor');
      const { fc1, fc1Bias, fc2, fc2Bias } = predictor;
      return { router: router.value, predictor: valuesOf({ fc1, fc1Bias, fc2, fc2Bias }) };
    }
    default:
      return selectsBy satisfies never;
  }
}

function valuesOf<Name extends string>(parameters: Record<Name, Parameter>) {
  return Object.fromEntries(
    Object.entries<Parameter>(parameters).map(([name, { value }]) => [name, value]),
  ) as Record<Name, Parameter['value']>;
}
