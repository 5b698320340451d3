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

/** What selects a token in a causal mode: r > 0, or its predictor's logit > 0. */
type CausalSelector = 'router' | 'predictor';

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
};

/**
 * The logits by which a causal mode selects: a token passes through the block where its logit is above 0.
 *
 * @param r router weights [B, T]
 * @param predictor logits of the block's predictor [B, T]; null without one
 */
export function decidingLogits(mode: CausalMode, r: Tensor, predictor: Tensor | null): Tensor {
  const { selectsBy } = MODES[mode];
  switch (selectsBy) {
    case 'router':
      return r;
    case 'predictor':
      if (predictor === null) throw new Error(`the mode "${mode}" needs a predictor`);
      return predictor;
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
