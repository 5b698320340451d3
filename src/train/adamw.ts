/** AdamW (Loshchilov and Hutter 2019) over all parameters of a model: global-norm clipping, decoupled decay on matrices. */
import { addN, keep, sub, type Tensor, tidy, zerosLike } from '@tensorflow/tfjs-core';
import { adamWStep } from '../ops/adamw.js';
import { globalNorm } from '../ops/global-norm.js';
import type { Parameter } from '../ops/tape.js';
import type { Optimizer, OptimizerOptions, UpdateFactors } from './optimizer.js';

export const ADAM_BETA1 = 0.9;
export const ADAM_BETA2 = 0.95;
export const ADAM_EPSILON = 1e-8;

/** Weight decay applies to matrices only, not to gains and biases. */
const MATRICES_DECAY = ({ value }: Parameter): UpdateFactors => ({
  rate: 1,
  decay: value.rank >= 2 ? 1 : 0,
});

/** Running means of the gradient and of its square, by the names that torch.optim.AdamW gives them. */
type Moments = Record<'exp_avg' | 'exp_avg_sq', Tensor>;

export class AdamW implements Optimizer {
  step = 0;
  readonly scheduleLength = 3;
  readonly state: ReadonlyMap<Parameter, Moments>;
  private readonly factors: UpdateFactors[];

  constructor(
    private readonly parameters: readonly Parameter[],
    private readonly options: OptimizerOptions,
  ) {
    const { factors = MATRICES_DECAY } = options;
    this.factors = parameters.map(factors);
    const zero = (parameter: Parameter) => keep(zerosLike(parameter.value));
    this.state = new Map(parameters.map((p) => [p, { exp_avg: zero(p), exp_avg_sq: zero(p) }]));
  }

  nextSchedule(learningRate: number): [rate: number, correction1: number, correction2: number] {
    this.step += 1;
    const { beta2 = ADAM_BETA2 } = this.options;
    return [learningRate, 1 - ADAM_BETA1 ** this.step, 1 - beta2 ** this.step];
  }

  apply(schedule: Tensor, losses: readonly Tensor[]): Tensor {
    return tidy(() => {
      const states = this.parameters.map((parameter) => {
        const { exp_avg: mean, exp_avg_sq: variance } = this.momentsOf(parameter);
        return { value: parameter.value, grad: gradientOf(parameter), mean, variance };
      });
      // x - x is 0 for every finite number, and NaN for every other x.
      const zeros = losses.map((loss) => sub<Tensor>(loss, loss));
      const norm = addN([globalNorm(states.map(({ grad }) => grad)), ...zeros]);
      const updated = adamWStep(states, norm, schedule, {
        beta1: ADAM_BETA1,
        beta2: this.options.beta2 ?? ADAM_BETA2,
        epsilon: this.options.epsilon ?? ADAM_EPSILON,
        weightDecays: this.factors.map(({ decay }) => decay * this.options.weightDecay),
        rateFactors: this.factors.map(({ rate }) => rate),
        maxNorm: this.options.gradientClip,
      });
      this.parameters.forEach((parameter, i) => {
        const [value, mean, variance] = updated[i] as [Tensor, Tensor, Tensor];
        const moments = this.momentsOf(parameter);
        for (const dead of [parameter.value, moments.exp_avg, moments.exp_avg_sq]) dead.dispose();
        parameter.value = keep(value);
        moments.exp_avg = keep(mean);
        moments.exp_avg_sq = keep(variance);
        parameter.clearGrad();
      });
      return norm;
    });
  }

  dispose(): void {
    for (const { exp_avg, exp_avg_sq } of this.state.values()) {
      exp_avg.dispose();
      exp_avg_sq.dispose();
    }
  }

  private momentsOf(parameter: Parameter): Moments {
    return this.state.get(parameter) as Moments;
  }
}

function gradientOf(parameter: Parameter): Tensor {
  if (parameter.grad === null) throw new Error(`${parameter.name} has no gradient`);
  return parameter.grad;
}
