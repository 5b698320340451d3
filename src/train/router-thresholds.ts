/**
 * The running quantiles of a model's routed blocks during training: θ ← 0.99·θ + 0.01·τ in every step, with which the causal
 * mode `quantile` selects. They cost no FLOPs and change nothing else in the training.
 */
import { keep, type Tensor, tensor } from '@tensorflow/tfjs-core';
import type { RoutedTrace } from '../model/block.js';
import { type ModelConfig, routedBlocks } from '../model/config.js';
import { ROUTERS } from '../model/routers.js';
import { routedThresholdKernel, runningQuantileKernel } from '../ops/running-quantile.js';

export const QUANTILE_DECAY = 0.99;

/** The uncorrected sum of each routed block, in order, and the number of steps. */
export interface ThresholdState {
  sums: number[];
  steps: number;
}

export class RouterThresholds {
  /** τ of every routed block and sequence of the current step, [R, B]. */
  private taus: Tensor;
  /** [R + 1]: sums, number of steps. */
  private state: Tensor;

  /** @param from the state of an earlier process; null: no step yet */
  constructor(blocks: number, batchSequences: number, from: ThresholdState | null) {
    const { sums, steps } = from ?? { sums: Array<number>(blocks).fill(0), steps: 0 };
    this.taus = keep(tensor(new Float32Array(blocks * batchSequences), [blocks, batchSequences]));
    this.state = keep(tensor(Float32Array.of(...sums, steps), [blocks + 1]));
  }

  /** Takes the router weights of a micro-batch, whose first sequence has this index in the batch. Queues device work. */
  observe(routed: readonly RoutedTrace[], first: number): void {
    routed.forEach(({ r, mask }, block) => {
      const [taus] = routedThresholdKernel({ r, mask, thresholds: this.taus }, { block, first });
      this.taus = replaced(this.taus, taus);
    });
  }

  /** Counts a step once all its sequences were observed; a step whose gradient norm is not finite changes nothing. */
  update(norm: Tensor): void {
    const inputs = { thresholds: this.taus, norm, state: this.state };
    const [state] = runningQuantileKernel(inputs, { decay: QUANTILE_DECAY });
    this.state = replaced(this.state, state);
  }

  /** Reads the state from the device. */
  read(): ThresholdState {
    const values = Array.from(this.state.dataSync());
    return { sums: values.slice(0, -1), steps: values.at(-1) as number };
  }

  dispose(): void {
    this.taus.dispose();
    this.state.dispose();
  }
}

/** Makes the thresholds of a model; null for a model without them: dense, or with random router weights. */
export function createThresholds(
  config: ModelConfig,
  batchSequences: number,
  from: ThresholdState | null = null,
): RouterThresholds | null {
  const { routing } = config;
  if (routing === null || !ROUTERS[routing.router].hasThreshold) return null;
  return new RouterThresholds(routedBlocks(config).length, batchSequences, from);
}

/** θ of each routed block, corrected for its start at 0; null before the first step. */
export function correctedThresholds({ sums, steps }: ThresholdState): number[] | null {
  if (steps === 0) return null;
  return sums.map((sum) => Math.fround(sum / (1 - QUANTILE_DECAY ** steps)));
}

/** Keeps the new tensor in place of the old one, whose memory it may use. */
function replaced(before: Tensor, after: Tensor): Tensor {
  keep(after);
  before.dispose();
  return after;
}
