/**
 * The coordinate check of a parametrization (Yang et al. 2022, arXiv 2203.03466, appendix D.1): trains models of several widths
 * and depths for some steps and fits how the size of their activations depends on the shape. Under a correct parametrization
 * the residual stream and the logits keep their size.
 */
import type { Tensor } from '@tensorflow/tfjs-core';
import { tensor2d } from '@tensorflow/tfjs-core';
import type { Batch } from '../data/batches.js';
import type { ModelConfig } from '../model/config.js';
import { initialValues } from '../model/parameters.js';
import {
  type BaseShape,
  PARAMETRIZATIONS,
  type ParametrizationName,
  shapeScale,
  withMultipliers,
} from '../model/parametrization.js';
import { type Stream, sumOf } from '../model/stream.js';
import { Transformer } from '../model/transformer.js';
import type { Recorder } from '../ops/recording.js';
import { scope } from '../ops/scope.js';
import { randomStream } from '../random.js';
import { linearFit, mean } from '../statistics.js';
import { createOptimizer } from '../train/optimizers.js';
import { optimizerOptions, peakLearningRate } from '../train/parametrization.js';
import { TrainingStep } from '../train/step.js';

/** Activations whose root mean square is measured. */
export const COORDINATES = ['residual stream', 'logits', 'attention logits', 'router weights'] as const;
export type Coordinate = (typeof COORDINATES)[number];
export type Sizes = Record<Coordinate, number>;

/** The coordinates whose exponents must be near 0 under `complete`, and how near. */
export const STABLE: readonly Coordinate[] = ['residual stream', 'logits'];
export const MAX_EXPONENT = 0.1;

export interface CoordinateBase {
  d_model: number;
  n_layers: number;
  head_size: number;
  sequence_length: number;
  batch_sequences: number;
  vocab_size: number;
}

/**
 * Few tokens in the vocabulary: exponents are those of the limit only where the width is large against the number of distinct
 * inputs, whose gradients a narrow model cannot separate. With 256 tokens the stream's exponent by width is -0.3 at widths of 32
 * to 256, with 16 it is 0.
 */
const VOCABULARY = 16;

/** Two minutes on two cores. */
export const SMALL_BASE: CoordinateBase = {
  d_model: 64,
  n_layers: 12,
  head_size: 16,
  sequence_length: 64,
  batch_sequences: 2,
  vocab_size: VOCABULARY,
};

/** The width and head size of the default `training.base`. */
export const LARGE_BASE: CoordinateBase = {
  d_model: 256,
  n_layers: 12,
  head_size: 64,
  sequence_length: 128,
  batch_sequences: 4,
  vocab_size: VOCABULARY,
};

/** Widths from a quarter to twice, depths from half to four times the base. */
const WIDTHS = [1 / 4, 1 / 2, 1, 2];
const DEPTHS = [1 / 2, 1, 2, 4];

const TRAINING = { learning_rate: 1.5e-3, weight_decay: 0.1, gradient_clip: 1 };
const WARMUP = 5;

export interface CoordinateOptions {
  base: CoordinateBase;
  steps: number;
  /** Sizes are geometric means over these seeds. */
  seeds: readonly number[];
  recorder: Recorder | null;
}

/** One trained shape. */
export interface MeasuredShape {
  parametrization: ParametrizationName;
  d_model: number;
  n_layers: number;
  /** Root mean squares after the last step. */
  sizes: Sizes;
}

/** size ∝ width^by_width at the base's depth, and ∝ depth^by_depth at its width. */
export interface Exponents {
  parametrization: ParametrizationName;
  coordinate: Coordinate;
  by_width: number;
  by_depth: number;
  /** Whether both are within ±0.1; null for coordinates of which that is not required. */
  stable: boolean | null;
}

export interface CoordinateCheck {
  shapes: MeasuredShape[];
  exponents: Exponents[];
}

/** Trains every shape under every parametrization. */
export async function checkCoordinates(options: CoordinateOptions): Promise<CoordinateCheck> {
  const { d_model, n_layers } = options.base;
  const shapes: MeasuredShape[] = [];
  for (const parametrization of PARAMETRIZATIONS) {
    const sides = [
      ...WIDTHS.map((factor) => ({ d_model: factor * d_model, n_layers })),
      ...DEPTHS.filter((factor) => factor !== 1).map((factor) => ({ d_model, n_layers: factor * n_layers })),
    ];
    for (const side of sides) {
      const measured: Sizes[] = [];
      for (const seed of options.seeds)
        measured.push(await sizesAfterTraining(parametrization, side, seed, options));
      // Exponents are slopes of logarithms, so seeds are averaged as logarithms too.
      const average = (name: Coordinate) => Math.exp(mean(measured.map((sizes) => Math.log(sizes[name]))));
      shapes.push({ parametrization, ...side, sizes: sizesOf(average) });
    }
  }
  return { shapes, exponents: exponentsOf(shapes, options.base) };
}

const sizesOf = (of: (name: Coordinate) => number): Sizes =>
  Object.fromEntries(COORDINATES.map((name) => [name, of(name)])) as Sizes;

/** Slopes of ln size over ln width and over ln depth. */
function exponentsOf(shapes: readonly MeasuredShape[], base: CoordinateBase): Exponents[] {
  return PARAMETRIZATIONS.flatMap((parametrization) => {
    const own = shapes.filter((shape) => shape.parametrization === parametrization);
    return COORDINATES.map((coordinate) => {
      const slope = (along: 'd_model' | 'n_layers', fixed: 'd_model' | 'n_layers') => {
        const line = own.filter((shape) => shape[fixed] === base[fixed]);
        const x = line.map((shape) => Math.log(shape[along]));
        return linearFit(
          x,
          line.map(({ sizes }) => Math.log(sizes[coordinate])),
        ).slope;
      };
      const [by_width, by_depth] = [slope('d_model', 'n_layers'), slope('n_layers', 'd_model')];
      const isRequired = parametrization === 'complete' && STABLE.includes(coordinate);
      const within = Math.abs(by_width) <= MAX_EXPONENT && Math.abs(by_depth) <= MAX_EXPONENT;
      return { parametrization, coordinate, by_width, by_depth, stable: isRequired ? within : null };
    });
  });
}

async function sizesAfterTraining(
  parametrization: ParametrizationName,
  { d_model, n_layers }: { d_model: number; n_layers: number },
  seed: number,
  { base, steps, recorder }: CoordinateOptions,
): Promise<Sizes> {
  const { head_size, sequence_length, batch_sequences, vocab_size } = base;
  const standard: ModelConfig = {
    vocab_size,
    d_model,
    n_layers,
    n_heads: Math.max(1, d_model / head_size),
    d_ff: 4 * d_model,
    sequence_length,
    tie_embeddings: true,
    routing: {
      frequency: 2,
      capacity: 0.125,
      router: 'learned',
      gate: 'raw',
      aux_loss_weight: 0,
      predictor_hidden: 0,
    },
    experts: null,
  };
  const shape: BaseShape | null =
    parametrization === 'standard'
      ? null
      : {
          d_model: base.d_model,
          n_layers: base.n_layers,
          head_size,
          batch_tokens: batch_sequences * sequence_length,
        };
  const config = shape === null ? standard : withMultipliers(standard, shape);
  const spec = {
    model: config,
    batch_sequences,
    training: {
      ...TRAINING,
      ...(shape && { parametrization: 'complete' as const, base: shape }),
      micro_batch_sequences: null,
      deterministic: true,
    },
  };
  const model = new Transformer(config, initialValues(seed), shapeScale(config, shape));
  const optimizer = createOptimizer(model.parameters, optimizerOptions(spec, model.tree.roles));
  const step = new TrainingStep({
    model,
    optimizer,
    batchSequences: batch_sequences,
    microBatchSequences: batch_sequences,
    seed,
    recorder,
  });
  const batch = new MarkovText(vocab_size, seed).batch(batch_sequences, sequence_length);
  for (let i = 1; i <= steps; i++) {
    const rate = peakLearningRate(spec) * Math.min(1, i / WARMUP);
    await step.run(batch, 0, rate);
  }
  step.dispose();
  const sizes = measureSizes(model, batch);
  optimizer.dispose();
  model.dispose();
  return sizes;
}

/** Root mean squares in a forward pass: of the last residual stream, the logits, and means over blocks of the others. */
function measureSizes(model: Transformer, { sequences, inputs }: Batch): Sizes {
  return scope(() => {
    const attention: number[] = [];
    let stream = Number.NaN;
    const { sequence_length, n_heads } = model.config;
    const { logits, routed } = model.forward(tensor2d(inputs, [sequences, sequence_length], 'int32'), {
      tape: null,
      mode: 'topk',
      drawn: null,
      onKeys: (_, qkv) => attention.push(attentionSize(qkv, n_heads)),
      onStream: (last: Stream) => {
        stream = rootMeanSquare(scope(() => sumOf(null, { ...last, x: last.x.clone() })).dataSync());
      },
    });
    return {
      'residual stream': stream,
      logits: rootMeanSquare(logits.dataSync()),
      'attention logits': mean(attention),
      'router weights': mean(routed.map(({ r }) => rootMeanSquare(r.dataSync()))),
    };
  });
}

/** Root mean square of q·k/√K over the visible pairs of the first sequence. qkv [B, n, 3D], rotated */
function attentionSize(qkv: Tensor, heads: number): number {
  const [, n, width] = qkv.shape as [number, number, number];
  const values = qkv.dataSync();
  const D = width / 3;
  const K = D / heads;
  let [squares, count] = [0, 0];
  for (let h = 0; h < heads; h++) {
    for (let t = 0; t < n; t++) {
      for (let s = 0; s <= t; s++) {
        let product = 0;
        for (let i = 0; i < K; i++) {
          const q = values[t * width + h * K + i] as number;
          product += q * (values[s * width + D + h * K + i] as number);
        }
        squares += product ** 2 / K;
        count += 1;
      }
    }
  }
  return Math.sqrt(squares / count);
}

function rootMeanSquare(values: ArrayLike<number>): number {
  let squares = 0;
  for (let i = 0; i < values.length; i++) squares += (values[i] as number) ** 2;
  return Math.sqrt(squares / values.length);
}

/** Tokens of a chain in which each is followed by one of four: something to learn within some steps. One batch, trained repeatedly. */
class MarkovText {
  private readonly stream;
  private readonly followers: Int32Array;
  private last = 0;

  constructor(
    private readonly vocabulary: number,
    seed: number,
  ) {
    const chain = randomStream(seed, 'coordinates', 'chain');
    this.followers = Int32Array.from({ length: 4 * vocabulary }, () => chain.bits() % vocabulary);
    this.stream = randomStream(seed, 'coordinates', 'text');
  }

  batch(sequences: number, length: number): Batch {
    const [inputs, targets] = [new Int32Array(sequences * length), new Int32Array(sequences * length)];
    for (let i = 0; i < inputs.length; i++) {
      if (i % length === 0) this.last = this.stream.bits() % this.vocabulary;
      inputs[i] = this.last;
      this.last = this.followers[4 * this.last + (this.stream.bits() % 4)] as number;
      targets[i] = this.last;
    }
    return { sequences, inputs, targets };
  }
}
