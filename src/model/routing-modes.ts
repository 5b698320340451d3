/** Routing modes: how a routed block selects tokens in each, and in which of them a model can be run. */
import type { Tensor } from '@tensorflow/tfjs-core';
import {
  CAUSAL_MODES,
  type CausalMode,
  type ModelConfig,
  ROUTING_MODES,
  type RoutingConfig,
  type RoutingMode,
} from './config.js';
import { hasPredictor, ROUTERS } from './routers.js';

/** What selects a token in a causal mode: r > 0, its predictor's logit > 0, or r > θ, the block's running quantile. */
type CausalSelector = 'router' | 'predictor' | 'quantile';

interface RoutingModeTraits<Selects extends string> {
  /** What selects a token; `top-k`: a place among the k largest r of its sequence. */
  selectsBy: Selects;
  /** Whether evaluation runs the model's predictors, so that their FLOPs count. */
  runsPredictor: boolean;
  /** Why a model whose router has this mode cannot be run in it; null if it can. */
  problem: (routing: RoutingConfig) => string | null;
  /** Whether the mode is among those in which a sweep evaluates such a model. */
  isEvaluated: (routing: RoutingConfig) => boolean;
}

export const MODES: Record<'topk', RoutingModeTraits<'top-k'>> &
  Record<CausalMode, RoutingModeTraits<CausalSelector>> = {
  topk: {
    selectsBy: 'top-k',
    runsPredictor: true, // for its accuracy: in this mode alone the activations are those of training
    problem: () => null,
    isEvaluated: () => true,
  },
  predictor: {
    selectsBy: 'predictor',
    runsPredictor: true,
    problem: (routing) =>
      hasPredictor(routing) ? null : 'the model has no predictor; use topk or threshold',
    isEvaluated: () => true,
  },
  threshold: {
    selectsBy: 'router',
    runsPredictor: false,
    problem: () => null,
    isEvaluated: ({ aux_loss_weight }) => aux_loss_weight !== 0, // without the auxiliary loss, r > 0 does not mean selected
  },
  quantile: {
    selectsBy: 'quantile',
    runsPredictor: false,
    problem: () => null,
    isEvaluated: () => true,
  },
};

/** Values of one routed block by which a causal mode may select. */
export interface Deciders {
  /** Router weights [B, T]. */
  r: Tensor;
  /** Logits of the block's predictor [B, T]; null without one. */
  predictor: Tensor | null;
  /** θ, the running quantile of r in training; null if unknown. */
  threshold: number | null;
}

/** A causal mode selects the tokens whose logit [B, T] is above a number. */
export interface Decision {
  logits: Tensor;
  above: number;
}

/** How a causal mode selects the tokens of a routed block. */
export function decisionOf(mode: CausalMode, { r, predictor, threshold }: Deciders): Decision {
  const { selectsBy } = MODES[mode];
  switch (selectsBy) {
    case 'router':
      return { logits: r, above: 0 };
    case 'predictor':
      if (predictor === null) throw new Error(`the mode "${mode}" needs a predictor`);
      return { logits: predictor, above: 0 };
    case 'quantile':
      if (threshold === null) throw new Error(`the mode "${mode}" needs thresholds`);
      return { logits: r, above: threshold };
    default:
      return selectsBy satisfies never;
  }
}

/** Why a model cannot be run in a mode; null if it can. A dense model accepts every mode: it has nothing to select. */
export function modeProblem({ routing }: Pick<ModelConfig, 'routing'>, mode: RoutingMode): string | null {
  if (routing === null || mode === 'topk') return null;
  const { causalModes } = ROUTERS[routing.router];
  if (!causalModes.includes(mode)) {
    return `${routing.router} routing does not have this mode; use ${['topk', ...causalModes].join(' or ')}`;
  }
  return MODES[mode].problem(routing);
}

/** A model with its weights: some checkpoints lack what a mode needs. */
interface ModelWithWeights {
  config: Pick<ModelConfig, 'routing'>;
  thresholds: readonly number[] | null;
}

/** Why a model with these weights cannot be run in a mode: as `modeProblem`, or its checkpoint lacks thresholds. */
export function weightsProblem({ config, thresholds }: ModelWithWeights, mode: RoutingMode): string | null {
  const problem = modeProblem(config, mode);
  if (problem !== null || config.routing === null || mode === 'topk') return problem;
  if (MODES[mode].selectsBy !== 'quantile' || thresholds !== null) return null;
  return 'the checkpoint has no blocks.*.router.threshold: it is of a version that did not record them; use another mode';
}

/** The causal modes in which a model can be run, the preferred one first; empty if it has no causal form. */
export function causalModes(model: Pick<ModelConfig, 'routing'>): CausalMode[] {
  return CAUSAL_MODES.filter((mode) => modeProblem(model, mode) === null);
}

/** The modes in which a sweep evaluates a model, the training pass first. */
export function evaluationModes(model: Pick<ModelConfig, 'routing'>): RoutingMode[] {
  const { routing } = model;
  if (routing === null) return ['topk'];
  return ROUTING_MODES.filter(
    (mode) => modeProblem(model, mode) === null && MODES[mode].isEvaluated(routing),
  );
}

/** `evaluationModes` of a model with these weights: without the modes for which its checkpoint lacks something. */
export function weightsModes(model: ModelWithWeights): RoutingMode[] {
  return evaluationModes(model.config).filter((mode) => weightsProblem(model, mode) === null);
}
