/** `match_flops`: the shape whose FLOPs per pass are closest to a baseline's. Saved FLOPs go into depth, then into width. */
import { customShape, type Shape } from '../config/shapes.js';
import type { ModelConfig } from '../model/config.js';
import { flopsPerPass } from '../model/flops.js';

/** The baseline that models are matched to. */
export interface FlopsTarget {
  /** The baseline's shape, from which deeper and wider ones are derived. */
  shape: Shape;
  /** Null: the FLOPs per pass of the dense model of this shape. */
  flopsPerPass: number | null;
}

/** Relative difference of FLOPs per pass below which the baseline's width is kept. */
const CLOSE_ENOUGH = 0.01;
/** Largest relative change of width. */
const WIDEST_CHANGE = 0.15;
const WIDTH_STEP = 8;
const MAX_LAYERS = 4096;

interface Match {
  shape: Shape;
  /** |log(FLOPs per pass / targetFlops)|. */
  distance: number;
}

/**
 * The shape whose FLOPs per pass are closest to `targetFlops`: at the baseline's width the best depth (Raposo et al. 2024,
 * section 4.1: depth is worth more than width); if that differs by more than 1%, the best of all widths up to 15% away, each
 * at its own best depth. All widths keep the number of heads, give heads of an even size (rotary positions pair their
 * halves) and are multiples of 8 (tensor cores read 16 bytes at once); d_ff keeps its ratio.
 *
 * @param modelOf the model of a shape, under the setting that is matched
 */
export function matchFlops(targetFlops: number, base: Shape, modelOf: (shape: Shape) => ModelConfig): Shape {
  const match = (width: number): Match => bestDepth(targetFlops, width, base, modelOf);
  const own = match(base.d_model);
  if (own.distance <= Math.log1p(CLOSE_ENOUGH)) return own.shape;
  const step = leastCommonMultiple(2 * base.n_heads, WIDTH_STEP);
  const reach = Math.floor((WIDEST_CHANGE * base.d_model) / step);
  // From the nearest width outwards: the first of equal matches wins.
  const widths = Array.from({ length: reach }, (_, i) => (i + 1) * step).flatMap((change) => [
    base.d_model + change,
    base.d_model - change,
  ]);
  return widths
    .filter((width) => width > 0)
    .map(match)
    .reduce((best, one) => (one.distance < best.distance ? one : best), own).shape;
}

function leastCommonMultiple(a: number, b: number): number {
  let multiple = a;
  while (multiple % b !== 0) multiple += a;
  return multiple;
}

function bestDepth(
  targetFlops: number,
  width: number,
  base: Shape,
  modelOf: (shape: Shape) => ModelConfig,
): Match {
  const d_ff = Math.max(1, Math.round((base.d_ff * width) / base.d_model));
  let best: Match | null = null;
  for (let layers = 1; layers <= MAX_LAYERS; layers++) {
    const shape = customShape(width, layers, base.n_heads, d_ff);
    const flops = flopsPerPass(modelOf(shape)).total;
    const distance = Math.abs(Math.log(flops / targetFlops));
    if (best === null || distance < best.distance) best = { shape, distance };
    if (flops > targetFlops) break;
  }
  return best as Match;
}
