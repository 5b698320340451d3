/** Predictions of budgets that are not trained yet, and their scores once they are. */
import { customShape, defaultHeads } from '../config/shapes.js';
import { InputError } from '../errors.js';
import type { ModelConfig } from '../model/config.js';
import { flopsPerPass } from '../model/flops.js';
import { parameterCounts } from '../model/parameter-count.js';
import { VARIANTS } from '../model/variants.js';
import type { LoadedRun } from '../results/load.js';
import { mean, quantile } from '../statistics.js';
import type { Interval } from './curve-fit.js';
import { groupBy } from './group.js';
import { type JointLaw, routedParams, type Sized } from './joint-law.js';
import { type BudgetStudy, type Curve, type DoneRun, type Study, studyOf } from './study.js';
import { budgetName } from './words.js';

/** A dated prediction, as its file has it. */
export interface Prediction extends Predicted {
  format: 'mod-prediction-1';
  /** ISO 8601. */
  predicted_at: string;
  mod: string;
  git_commit: string | null;
  /** What it was made from. */
  sweeps: string[];
}

/** What is predicted for a budget. */
export interface Predicted {
  flop_budget: number;
  /** The budgets that it was made from. */
  budgets: number[];
  kinds: PredictedKind[];
  /** Loss of the best MoD kind minus that of the dense one. */
  difference: { kind: string; value: number; interval: Interval };
}

export interface PredictedKind {
  /** `dense`, `MoD 12.5%, every other block`. */
  kind: string;
  shape: { d_model: number; n_layers: number; n_heads: number; d_ff: number };
  params_total: number;
  flops_per_pass: number;
  tokens: number;
  loss: number;
  /** 95%. */
  interval: Interval;
}

/** The label of dense models. */
const DENSE = VARIANTS.baseline.label;

/** The step between the widths that are compared. */
const WIDTH_STEP = 32;
/** Shapes of up to this many times the largest width and depth that were trained are compared. */
const LARGER = 4;

/** Farther from the largest budget a law is not trusted. */
const FARTHEST = 30;

/** Budgets that differ by less are one. */
const NEARLY = 1.01;

/**
 * The optimum of every kind of the joint law at a budget, from the runs of smaller budgets: of shapes whose depth over width is within that of the shapes
 * trained at the largest budget, the one with the lowest loss by the law. The interval has two parts: laws of resampled shapes, and
 * what a law errs in: the errors of shapes, and where there are three budgets the error at the largest one of a law without it.
 *
 * @throws InputError if smaller budgets give no joint law
 */
export function predict(runs: readonly LoadedRun[], budget: number): Predicted {
  const { budgets, joint } = studyOf(runs.filter(({ row }) => row.flop_budget < budget / NEARLY));
  const largest = Math.max(...budgets.map((one) => one.budget));
  const without = studyOf(runs.filter(({ row }) => row.flop_budget < largest)).joint;
  if (joint === null) {
    throw new InputError(
      'a prediction needs, below its budget, dense runs and MoD runs of raw gate, three shapes or more of each, at two budgets or more: train another budget first',
    );
  }
  if (budget > FARTHEST * largest) {
    throw new InputError(
      `${budgetName(budget)} FLOPs are more than ${FARTHEST} times the largest budget below it, ${budgetName(largest)}: predict a nearer budget first, and train it`,
    );
  }
  const kinds = [
    { label: DENSE, index: -1 },
    ...joint.kappas.map(({ label }, index) => ({ label, index })),
  ].flatMap(({ label, index }) => {
    const found = predictKind(budgets, joint, without, label, index, budget);
    return found === null ? [] : [found];
  });
  const [dense, ...others] = kinds;
  const [best] = others.sort((a, b) => a.public.loss - b.public.loss);
  if (dense === undefined || best === undefined) {
    throw new InputError(
      `no shape suits ${budgetName(budget)} FLOPs: predict a budget nearer to those trained`,
    );
  }
  // Resampled laws err together for both kinds; the rest does not.
  const differences = best.resampled.map((loss, i) => loss - (dense.resampled[i] as number));
  const value = best.public.loss - dense.public.loss;
  return {
    flop_budget: budget,
    budgets: budgets.map((one) => one.budget),
    kinds: kinds.map((one) => one.public),
    difference: {
      kind: best.public.kind,
      value,
      interval: around(value, differences, Math.hypot(best.error, dense.error)),
    },
  };
}

interface Found {
  public: PredictedKind;
  resampled: number[];
  /** Standard deviation of what the law errs in. */
  error: number;
}

function predictKind(
  budgets: readonly BudgetStudy[],
  joint: JointLaw,
  without: JointLaw | null,
  label: string,
  index: number,
  budget: number,
): Found | null {
  const curves = curvesOf(budgets, label);
  const largest = curves.at(-1);
  if (largest === undefined) return null;
  const [best] = candidates(largest, budget)
    .map((model) => {
      const sized = sizedOf(model, index, budget);
      return { model, sized, loss: joint.lossOf(sized) };
    })
    .sort((a, b) => a.loss - b.loss);
  if (best === undefined) return null;
  const { model, sized, loss } = best;
  const resampled = joint.resampledLosses(sized);
  const error = loss * errorOf(joint, without, curves, label);
  const { d_model, n_layers, n_heads, d_ff } = model;
  return {
    public: {
      kind: label,
      shape: { d_model, n_layers, n_heads, d_ff },
      params_total: sized.params,
      flops_per_pass: flopsPerPass(model).total,
      tokens: sized.tokens,
      loss,
      interval: around(loss, resampled, error),
    },
    resampled,
    error,
  };
}

/** The curves of a kind that are trained like the baselines, by budget. */
const curvesOf = (budgets: readonly BudgetStudy[], label: string): Curve[] =>
  budgets.flatMap(({ alike }) => alike.filter(({ setting }) => setting.shortLabel === label).slice(0, 1));

/** A model trained for a budget, as the law has it. */
function sizedOf(model: ModelConfig, setting: number, budget: number): Sized {
  const { d_model, n_layers, sequence_length } = model;
  const tokens = (budget * sequence_length) / (3 * flopsPerPass(model).total);
  const params = parameterCounts(model).total;
  return { params, routed: routedParams(model), setting, d_model, n_layers, tokens };
}

/** Models of the curve's setting, with a ratio of depth over width that its shapes have. */
function candidates({ runs }: Curve, budget: number): ModelConfig[] {
  const [{ spec }] = runs as [DoneRun];
  const ratios = runs.map(({ row }) => row.n_layers / row.d_model);
  const [low, high] = [Math.min(...ratios), Math.max(...ratios)];
  const step = spec.model.routing?.frequency ?? 1;
  const widest = LARGER * Math.max(...runs.map(({ row }) => row.d_model));
  const models: ModelConfig[] = [];
  for (let width = WIDTH_STEP; width <= widest; width += WIDTH_STEP) {
    const heads = defaultHeads(width);
    if (heads === null) continue;
    // Deep models in larger steps: a layer more changes little.
    const first = Math.max(step, Math.ceil((low * width) / step) * step);
    for (let layers = first; layers <= high * width; layers += step * Math.ceil(layers / (16 * step))) {
      const { d_model, n_layers, n_heads, d_ff } = customShape(width, layers, heads);
      models.push({ ...spec.model, d_model, n_layers, n_heads, d_ff });
    }
  }
  return models.filter((model) => flopsPerPass(model).total * 3 <= budget / MIN_SEQUENCES);
}

/** A budget that trains on fewer sequences is no training. */
const MIN_SEQUENCES = 1000;

/** The relative error of a law: of the means of shapes, and at the largest budget of a law that does not contain it. */
function errorOf(joint: JointLaw, without: JointLaw | null, curves: readonly Curve[], label: string): number {
  const shapes = [
    ...groupBy(
      curves.flatMap(({ runs }) => runs),
      ({ row, cell }) => `${row.flop_budget} ${cell}`,
    ).values(),
  ];
  const known = shapes.flatMap((shape) => {
    const errors = shape.flatMap((run) => joint.residuals.get(run) ?? []);
    return errors.length === 0 ? [] : [mean(errors) ** 2];
  });
  const within = known.length === 0 ? 0 : mean(known);
  const last = curves.at(-1);
  const index = label === DENSE ? -1 : without?.kappas.findIndex((one) => one.label === label);
  if (without === null || last === undefined || index === undefined || (index < 0 && label !== DENSE)) {
    return Math.sqrt(within);
  }
  const { best } = last;
  const held = without.lossOf(sizedOf(best.spec.model, index, last.budget)) / best.loss - 1;
  return Math.hypot(Math.sqrt(within), held);
}

/** Two standard deviations of both parts: the middle 95% of the resamples, and a normal error. */
function around(value: number, resampled: readonly number[], error: number): Interval {
  const low = quantile(resampled, 0.025) - value;
  const high = quantile(resampled, 0.975) - value;
  const half = 1.96 * error;
  return [value - Math.hypot(Math.min(0, low), half), value + Math.hypot(Math.max(0, high), half)];
}

/** Whether what was found is within the interval; null if the optimum is not known, and the best model does not decide it. */
export type Inside = boolean | null;

/** A prediction against what was trained. */
export interface Score {
  prediction: Prediction;
  kinds: {
    kind: string;
    predicted: PredictedKind;
    /** The loss and size of the optimum if it is known, else of the best model. */
    loss: number;
    params: number;
    from: 'fit' | 'run';
    inside: Inside;
  }[];
  difference: { predicted: number; interval: Interval; value: number; inside: Inside } | null;
}

/** The scores of the predictions whose budgets have been trained since. */
export function scoresOf({ budgets }: Study, predictions: readonly Prediction[]): Score[] {
  return predictions.flatMap((prediction): Score[] => {
    const study = budgets.find(
      ({ budget }) => Math.abs(Math.log(budget / prediction.flop_budget)) < Math.log(NEARLY),
    );
    if (study === undefined || prediction.budgets.includes(study.budget)) return [];
    const kinds = prediction.kinds.flatMap((predicted) => {
      const [curve] = curvesOf([study], predicted.kind);
      if (curve === undefined) return [];
      const { loss, params, from } = curve.optimum;
      return [
        {
          kind: predicted.kind,
          predicted,
          loss,
          params,
          from,
          inside: insideOf(loss, from, predicted.interval),
        },
      ];
    });
    if (kinds.length === 0) return [];
    const ofKind = (kind: string) => kinds.find((one) => one.kind === kind);
    const [mod, dense] = [ofKind(prediction.difference.kind), ofKind(DENSE)];
    const { value: predicted, interval } = prediction.difference;
    const known = mod?.from === 'fit' && dense?.from === 'fit';
    const value = (mod?.loss ?? 0) - (dense?.loss ?? 0);
    const difference =
      mod === undefined || dense === undefined
        ? null
        : { predicted, interval, value, inside: known ? isInside(value, interval) : null };
    return [{ prediction, kinds, difference }];
  });
}

/** The loss of a best model is an upper bound of the optimum's: above the interval it decides nothing. */
const insideOf = (loss: number, from: 'fit' | 'run', interval: Interval): Inside =>
  from === 'run' && loss > interval[1] ? null : isInside(loss, interval);

const isInside = (value: number, [low, high]: Interval) => value >= low && value <= high;
