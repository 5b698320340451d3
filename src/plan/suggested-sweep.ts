/**
 * A sweep that fits data and machine, for `mod init`: a budget, sizes that bracket the optimum, and seeds enough for a verdict. All
 * of it is a start that the user edits, so the rules are plain.
 */
import { customShape, type Shape } from '../config/shapes.js';
import type { ModelConfig } from '../model/config.js';
import { flopsPerPass } from '../model/flops.js';
import { parameterCounts } from '../model/parameter-count.js';

/** What the sweep has to fit. */
export interface SweepLimits {
  /** Tokens to train on, and held-out ones. */
  tokens: number;
  heldoutTokens: number;
  vocabSize: number;
  /** FLOP/s of training of one run, and the runs at a time. */
  flopsPerSecond: number;
  jobs: number;
  /** Bytes for weights, gradients and optimizer of one run; null: not limited. */
  memoryBytes: number | null;
  /** FLOPs of a run; null: those that fit `hours`. */
  budget: number | null;
  /** Hours of the whole sweep, if there is no budget. */
  hours: number;
}

export interface SuggestedSweep {
  /** FLOPs of a run. */
  budget: number;
  sequenceLength: number;
  batchSequences: number;
  evaluationSequences: number;
  /** Ascending. */
  sizes: Shape[];
  /** The sizes of the random control. */
  controls: Shape[];
  seeds: number[];
  runs: number;
  /** FLOPs and hours of all runs. */
  flops: number;
  hours: number;
  /** Passes over the training data of the smallest and of the largest size. */
  passes: [most: number, least: number];
  /** Steps of the largest dense model. */
  leastSteps: number;
  /** Whether the data, not the hours, limits the budget. */
  limitedByData: boolean;
  /** Sizes that were left out since they do not fit the memory. */
  tooLarge: number;
}

/** Steps that a ladder of sizes, each twice the one before, needs; from 512 on heads of 64. */
const WIDTHS = [
  ...[32, 48, 64],
  ...Array.from({ length: 13 }, (_, i) => 32 * (i + 3)),
  ...Array.from({ length: 249 }, (_, i) => 64 * (i + 8)),
];
const SMALLEST = customShape(32, 2);
/** Sizes from a quarter of the optimum to four times it, each twice the one before. */
const FACTORS = [1 / 4, 1 / 2, 1, 2, 4];
/** Without a third seed an effect common to all runs of a seed is not told from a difference: see docs/statistics.md. */
const SEEDS = [0, 1, 2];
/** Two kinds: dense and MoD. */
const KINDS = 2;
const CAPACITY = 0.125;
/** Loss falls little when text is read more often than four times (Muennighoff et al. 2023, arXiv 2305.16264). */
export const MOST_PASSES = 4;
/** Rate of a sweep over the measured one: its smaller shapes are slower, and runs at a time share caches and memory. */
const REAL_RATE = 0.7;
/** Seconds of a run without steps: the start of its process, compilation, checkpoints. An H200 took 2.9 s. */
const START_SECONDS = 3;
/** Held-out sequences: what a tenth of the training's FLOPs evaluates, but enough for a verdict (64), and no more than help. */
const [LEAST_SEQUENCES, MOST_SEQUENCES, EVALUATION_SHARE] = [96, 2048, 0.1];
/** Evaluations of a run on average: of a dense model one, of MoD in three routing modes. */
const EVALUATIONS = 2;
/** Steps that the batch is chosen for, and fewest that a loss curve says something after. */
const STEPS = 2000;
const FEWEST_STEPS = 200;
const BATCH_TOKENS = [512, 2 ** 18] as const;
/** Bytes of a parameter with its gradient and AdamW's moments, and in bf16 a copy. */
const PARAMETER_BYTES = 18;
const BYTE_VOCABULARY = 1024;
/** Tokens per parameter at the optimum: 20 in Hoffmann et al. 2022; of bytes 100 to 150 in the study linux-bytes. */
const TOKENS_PER_PARAMETER = { words: 20, bytes: 130 };

/** @throws RangeError if the largest model would train for too few steps, or no model fits the memory */
export function suggestSweep(limits: SweepLimits): SuggestedSweep {
  let budget = limits.budget ?? affordable(limits);
  let limitedByData = false;
  if (limits.budget === null) {
    // Tokens grow as the root of the budget, and the sizes with it.
    for (let tries = 0; tries < 8; tries++) {
      const { passes } = sweepOf(limits, budget);
      if (passes[0] <= MOST_PASSES) break;
      limitedByData = true;
      budget = twoDigits(budget * 0.98 * (MOST_PASSES / passes[0]) ** 2);
    }
  }
  const suggested = sweepOf(limits, budget);
  const short = FEWEST_STEPS / suggested.leastSteps;
  if (short > 1) {
    const steps = `the largest model would train for ${Math.floor(suggested.leastSteps)} steps, fewer than ${FEWEST_STEPS}`;
    const times = (factor: number) => Number((1.05 * factor).toPrecision(2));
    throw new RangeError(
      limitedByData
        ? `${limits.tokens} tokens are too few: at ${MOST_PASSES} passes ${steps}; about ${times(short)} times as much is needed`
        : `${limits.budget === null ? `${limits.hours} hours` : `${limits.budget} FLOPs`} are too few: ${steps}; about ${times(short ** 2)} times as many are needed`,
    );
  }
  return { ...suggested, limitedByData };
}

/** The budget with which a sweep takes the hours: what starts and evaluations take depends little on it. */
function affordable(limits: SweepLimits): number {
  const runs = KINDS * FACTORS.length * SEEDS.length + controlsOf(FACTORS).length;
  const wanted = 3600 * limits.hours;
  const starts = (runs * START_SECONDS) / limits.jobs;
  if (starts > wanted / 2) {
    throw new RangeError(
      `${limits.hours} hours are too few: the starts of ${runs} runs alone take ${Math.ceil(starts / 60)} minutes`,
    );
  }
  let budget = twoDigits((wanted * limits.jobs * limits.flopsPerSecond * REAL_RATE) / runs);
  for (let tries = 0; tries < 8; tries++) {
    const seconds = 3600 * sweepOf(limits, budget).hours;
    if (seconds <= wanted) break;
    budget = twoDigits(budget * Math.min(0.98, wanted / seconds));
  }
  return budget;
}

function sweepOf(limits: SweepLimits, budget: number): SuggestedSweep {
  const { vocabSize } = limits;
  const ratio = vocabSize <= BYTE_VOCABULARY ? TOKENS_PER_PARAMETER.bytes : TOKENS_PER_PARAMETER.words;
  const sequenceLength = budget < 1e13 ? 256 : budget < 1e17 ? 1024 : 2048;
  const config = (shape: Shape, routed = false): ModelConfig => ({
    ...shape,
    vocab_size: vocabSize,
    sequence_length: sequenceLength,
    tie_embeddings: true,
    experts: null,
    routing: routed
      ? {
          frequency: 2,
          capacity: CAPACITY,
          router: 'learned',
          gate: 'raw',
          aux_loss_weight: 0,
          predictor_hidden: 64,
        }
      : null,
  });
  const parameters = (shape: Shape) => parameterCounts(config(shape)).total;
  // A small budget has its optimum below the smallest model: the sizes start there.
  const optimum = Math.max(Math.sqrt(budget / (6 * ratio)), parameters(SMALLEST) / (FACTORS[0] as number));
  const near = distinct(FACTORS.map((factor) => shapeNear(factor * optimum, parameters)));
  const fits = (shape: Shape) =>
    limits.memoryBytes === null || PARAMETER_BYTES * parameters(shape) < limits.memoryBytes / 2;
  const sizes = near.filter(fits);
  const middle = sizes[Math.floor(sizes.length / 2)];
  if (middle === undefined) throw new RangeError('no model of this budget fits the memory');
  const tokensOf = (shape: Shape, routed = false) =>
    (budget / (3 * flopsPerPass(config(shape, routed)).total)) * sequenceLength;
  const most = Math.min(BATCH_TOKENS[1], tokensOf(sizes.at(-1) as Shape) / FEWEST_STEPS);
  const wanted = Math.min(most, Math.max(BATCH_TOKENS[0], tokensOf(middle) / STEPS));
  const batchSequences = Math.max(1, 2 ** Math.floor(Math.log2(wanted / sequenceLength)));
  const controls = controlsOf(sizes);
  const runs = KINDS * sizes.length * SEEDS.length + controls.length;
  const mean = sizes.reduce((sum, shape) => sum + flopsPerPass(config(shape)).total, 0) / sizes.length;
  const cheap = Math.max(LEAST_SEQUENCES, (EVALUATION_SHARE * budget) / (EVALUATIONS * mean));
  const evaluationSequences = Math.max(
    1,
    Math.floor(Math.min(MOST_SEQUENCES, cheap, limits.heldoutTokens / sequenceLength)),
  );
  const flopsOfRun = budget + EVALUATIONS * evaluationSequences * mean;
  const seconds = flopsOfRun / (limits.flopsPerSecond * REAL_RATE) + START_SECONDS;
  const passes = (shape: Shape, routed: boolean) => tokensOf(shape, routed) / limits.tokens;
  return {
    budget,
    sequenceLength,
    batchSequences,
    evaluationSequences,
    sizes,
    controls,
    seeds: SEEDS,
    runs,
    flops: runs * budget,
    hours: (runs * seconds) / limits.jobs / 3600,
    passes: [passes(sizes[0] as Shape, true), passes(sizes.at(-1) as Shape, false)],
    leastSteps: tokensOf(sizes.at(-1) as Shape) / (batchSequences * sequenceLength),
    limitedByData: false,
    tooLarge: near.length - sizes.length,
  };
}

/** The sizes around the middle one. */
function controlsOf<T>(sizes: readonly T[]): T[] {
  const middle = Math.floor(sizes.length / 2);
  return sizes.slice(Math.max(0, middle - 1), middle + 2);
}

/**
 * The shape near this number of parameters with a width of about 32 per layer, as in the study's ladders; an even number of
 * layers, so that half of the blocks are routed.
 */
function shapeNear(target: number, parameters: (shape: Shape) => number): Shape {
  const shapes = WIDTHS.flatMap((width) =>
    [Math.floor(width / 64), Math.ceil(width / 64)].map((half) => customShape(width, 2 * Math.max(1, half))),
  );
  const distance = (shape: Shape) => Math.abs(Math.log(parameters(shape) / target));
  return shapes.reduce((best, shape) => (distance(shape) < distance(best) ? shape : best));
}

function distinct(shapes: readonly Shape[]): Shape[] {
  return [...new Map(shapes.map((shape) => [`${shape.d_model} ${shape.n_layers}`, shape])).values()];
}

/** Rounded down to two digits. */
function twoDigits(value: number): number {
  const unit = 10 ** (Math.floor(Math.log10(value)) - 1);
  return Number((Math.floor(value / unit + 1e-9) * unit).toPrecision(2));
}
