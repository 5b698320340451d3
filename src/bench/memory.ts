/** The shapes whose memory is compared: a dense model, and routed models of the same shape and of the same FLOPs per pass. */
import { InputError } from '../errors.js';
import { isRouted, type ModelConfig, selectedTokens } from '../model/config.js';
import { flopsPerPass } from '../model/flops.js';
import { parameterCounts } from '../model/parameter-count.js';
import { type BenchShape, parseShape } from './shape.js';

/** The paper's best setting. */
const ROUTED = 'c0.125f2';
const MAX_LAYERS = 512;

/** Bytes per value: keys and values are in float32. */
const BYTES = 4;

/**
 * A dense shape, the routed shape of the same sizes (about the same parameters), and the deeper routed shape whose FLOPs per
 * pass are nearest to the dense ones.
 *
 * @throws InputError if the shape is already routed
 */
export function memoryShapes(dense: string): [dense: string, equalParams: string, equalFlops: string] {
  if (parseShape(dense).model.routing !== null)
    throw new InputError(
      `--memory adds routed shapes to a dense shape: write ${dense.replace(/c[\d.]+f\d+/, '')}`,
    );
  const target = flopsPerPass(parseShape(dense).model).total;
  const deeper = (layers: number) => `${dense.replace(/l\d+/, `l${layers}`)}${ROUTED}`;
  const distance = (layers: number) =>
    Math.abs(flopsPerPass(parseShape(deeper(layers)).model).total - target);
  let layers = parseShape(dense).model.n_layers;
  while (layers < MAX_LAYERS && distance(layers + 1) < distance(layers)) layers += 1;
  return [dense, `${dense}${ROUTED}`, deeper(layers)];
}

export interface ModelSize {
  params: number;
  flopsPerPass: number;
  /** Keys and values of one sequence of full length; a routed block caches its capacity's share. */
  cacheBytes: number;
}

export function sizeOf({ model }: BenchShape): ModelSize {
  return {
    params: parameterCounts(model).total,
    flopsPerPass: flopsPerPass(model).total,
    cacheBytes: cacheBytes(model),
  };
}

function cacheBytes(model: ModelConfig): number {
  const { n_layers, sequence_length: T, d_model: D, routing } = model;
  let tokens = 0;
  for (let block = 0; block < n_layers; block++) {
    tokens += routing !== null && isRouted(model, block) ? selectedTokens(routing.capacity, T) : T;
  }
  return tokens * 2 * D * BYTES;
}
