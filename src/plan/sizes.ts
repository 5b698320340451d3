/** `model_sizes: auto`: shapes around the optimum of a budget, so that every isoFLOP curve has its minimum in range. */
import { CHINCHILLA_SHAPES, customShape, type Shape } from '../config/shapes.js';
import type { ModelConfig, RoutingConfig } from '../model/config.js';
import { parameterCounts } from '../model/parameter-count.js';

/** The settings, in addition to the shape, that determine the number of parameters. */
export type SizeContext = Pick<ModelConfig, 'vocab_size' | 'tie_embeddings'> & { predictor_hidden: number };

export interface AutoSizes {
  baseline: Shape[];
  /** The baseline's sizes and deeper ones. */
  routed: Shape[];
}

const BASELINE_SIZES = 7;
const DEEPER_SIZES = 2;
export const MOST_AUTO_SIZES = BASELINE_SIZES + DEEPER_SIZES;
const SMALLEST_WIDTH = 16;
const SMALLEST_DEPTH = 2;
const MAX_LAYERS = 128;
/** Parameters of the largest optimum: larger budgets get the same sizes. */
const LARGEST_OPTIMUM = 1e12;
/** A row of table A9 is used if its parameters are within this ratio of the target. */
const NEAR_ENOUGH = 1.12;

/** Candidate widths, in steps that grow with the width. */
const widths = [
  ...range(SMALLEST_WIDTH, 128, 16),
  ...range(160, 512, 32),
  ...range(576, 2048, 64),
  ...range(2176, 8192, 128),
  ...range(8448, 16384, 256),
  ...range(17408, 65536, 1024),
];

function range(first: number, last: number, step: number): number[] {
  return Array.from({ length: Math.floor((last - first) / step) + 1 }, (_, i) => first + i * step);
}

/**
 * The sizes for a budget in total parameters, N0 = sqrt(budget / 120), about where a dense model's loss is lowest
 * (Hoffmann et al. 2022: 20 tokens per parameter, 6 FLOPs each): seven from N0/8 to 2·N0, evenly spaced in their logarithm;
 * for routed models, whose best is larger, the same and two up to 4·N0, the largest baseline's made deeper (Raposo et al.
 * 2024: FLOPs that routing saves are better spent on depth than on width). A row of table A9 is used if it is near.
 * If the vocabulary alone is larger than N0/8 the sizes start at the smallest model.
 */
export function autoSizes(budget: number, context: SizeContext): AutoSizes {
  const optimum = Math.min(Math.sqrt(budget / 120), LARGEST_OPTIMUM);
  const smallest = dense(customShape(SMALLEST_WIDTH, SMALLEST_DEPTH), context);
  const low = Math.max(optimum / 8, smallest);
  const high = Math.max(2 * optimum, 16 * low);

  const at = (width: number, layers: number) => dense(customShape(width, layers), context);
  const usable = widths.filter((width) => at(width, SMALLEST_DEPTH) <= high && at(width, MAX_LAYERS) >= low);

  const baseline: Shape[] = [];
  let below = 0;
  for (let i = 0; i < BASELINE_SIZES; i++) {
    const target = low * (high / low) ** (i / (BASELINE_SIZES - 1));
    const sized = [...CHINCHILLA_SHAPES, ...usable.flatMap((width) => depthsNear(width, target, context))]
      .map((shape) => ({ shape, params: dense(shape, context) }))
      .filter(({ params }) => params >= low && params <= high && params > below);
    if (sized.length === 0) break;
    const best = bestOf(sized, target);
    baseline.push(best.shape);
    below = best.params;
  }
  return { baseline, routed: [...baseline, ...deeper(baseline.at(-1) as Shape, high, context)] };
}

/** The shapes of this width just under and just over `target` parameters, within the range of depths. */
function depthsNear(width: number, target: number, context: SizeContext): Shape[] {
  const params = (layers: number) => dense(customShape(width, layers), context);
  const depth = Math.floor((target - params(0)) / (params(1) - params(0)));
  const within = (layers: number) => Math.min(MAX_LAYERS, Math.max(SMALLEST_DEPTH, layers));
  return [depth, depth + 1].map((layers) => customShape(width, within(layers)));
}

/** The shape with more layers, up to twice `size` parameters with a predictor in every block. */
function deeper(shape: Shape, size: number, context: SizeContext): Shape[] {
  const { d_model, n_heads, d_ff } = shape;
  const params = (layers: number) => largestRouted(customShape(d_model, layers, n_heads, d_ff), context);
  const depths = Array.from({ length: DEEPER_SIZES }, (_, i) => {
    const target = size * 2 ** ((i + 1) / DEEPER_SIZES);
    return Math.floor((target - params(0)) / (params(1) - params(0)));
  });
  return [...new Set(depths)]
    .filter((layers) => layers > shape.n_layers)
    .map((layers) => customShape(d_model, layers, n_heads, d_ff));
}

interface SizedShape {
  shape: Shape;
  params: number;
}

/** A row of table A9 near the target; otherwise the best compromise between the size and the usual proportions. */
function bestOf(sized: SizedShape[], target: number): SizedShape {
  const distance = ({ params }: SizedShape) => Math.abs(Math.log(params / target));
  const rows = sized.filter(
    (one) => CHINCHILLA_SHAPES.includes(one.shape) && distance(one) < Math.log(NEAR_ENOUGH),
  );
  return rows.length > 0
    ? leastBy(rows, distance)
    : leastBy(sized, (one) => 10 * distance(one) + disproportion(one.shape));
}

function leastBy<T>(items: T[], cost: (item: T) => number): T {
  return items.reduce((best, item) => (cost(item) < cost(best) ? item : best));
}

/** Log distance of width over depth from the usual ratio: about 56 as in table A9, smaller for models narrower than its rows. */
function disproportion({ d_model, n_layers }: Shape): number {
  const usual = 56 * Math.min(1, Math.sqrt(d_model / 512));
  return Math.abs(Math.log(d_model / n_layers / usual));
}

function dense(shape: Shape, { vocab_size, tie_embeddings }: SizeContext): number {
  const rest = { sequence_length: 1, routing: null, experts: null };
  return parameterCounts({ ...shape, ...rest, vocab_size, tie_embeddings }).total;
}

/** Parameters with every block routed and a predictor in each: the most that a routed model of the shape has. */
function largestRouted(shape: Shape, { vocab_size, tie_embeddings, predictor_hidden }: SizeContext): number {
  const routing: RoutingConfig = {
    frequency: 1,
    capacity: 1,
    router: 'learned',
    gate: 'raw',
    aux_loss_weight: 0,
    predictor_hidden,
  };
  const rest = { sequence_length: 1, routing, experts: null };
  return parameterCounts({ ...shape, ...rest, vocab_size, tie_embeddings }).total;
}
