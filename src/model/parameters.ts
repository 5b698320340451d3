/**
 * The parameters of a transformer as tensors: their shapes, initial values and names in a checkpoint. parameter-count.ts
 * counts their scalars from the config alone.
 */
import { type Tensor, tensor } from '@tensorflow/tfjs-core';
import { Parameter } from '../ops/tape.js';
import { randomStream } from '../random.js';
import { expertChoices, isRouted, type ModelConfig, type RoutingConfig } from './config.js';
import { fillNormal } from './normal-threads.js';
import {
  initialDeviation,
  type MatrixRole,
  type ShapeScale,
  shapeScale,
  type TensorRole,
} from './parametrization.js';
import { type ParameterMaker, ROUTERS, type RoutedParameters } from './routers.js';

export interface BlockParameters {
  /** [D] */
  attnNorm: Parameter;
  /** q, k and v as one product: [3D, D]. */
  qkv: Parameter;
  /** [D, D] */
  attnOut: Parameter;
  /** [D] */
  mlpNorm: Parameter;
  /** [experts and no-ops, D]; null: one MLP for all tokens. */
  expertRouter: Parameter | null;
  /** [F, D]; with E experts, one after another, [E·F, D]. */
  up: Parameter;
  /** [D, F]; with E experts, one after another, [E·D, F]. */
  down: Parameter;
  /** Null in a dense block. */
  routed: RoutedParameters | null;
}

export interface TransformerParameters {
  /** [V, D] */
  tokenEmbedding: Parameter;
  blocks: BlockParameters[];
  /** [D] */
  finalNorm: Parameter;
  /** [V, D]; null: tied to the embedding. */
  lmHead: Parameter | null;
  /** The role of each parameter in the parametrization. */
  roles: ReadonlyMap<Parameter, TensorRole>;
}

/** A tensor of a checkpoint: its PyTorch name, shape and initialisation. */
export interface TensorSpec {
  name: string;
  shape: number[];
  init: { kind: 'normal'; std: number } | { kind: 'ones' } | { kind: 'zeros' };
}

/** A parameter of the model: one tensor of a checkpoint, or several of one shape stacked by rows. */
interface ParameterSpec {
  name: string;
  parts: TensorSpec[];
  role: TensorRole;
}

/** Returns the values of a checkpoint's tensor, in row-major order. */
export type TensorSource = (spec: TensorSpec) => Float32Array;

/** The initial values for a seed, the same on every backend. */
export function initialValues(seed: number): TensorSource {
  return ({ name, shape, init }) => {
    const values = new Float32Array(shape.reduce((a, b) => a * b, 1));
    switch (init.kind) {
      case 'normal':
        fillNormal(randomStream(seed, 'init', name), values, init.std);
        return values;
      case 'ones':
        return values.fill(1);
      case 'zeros':
        return values;
      default:
        return init satisfies never;
    }
  };
}

/**
 * Makes all parameters of a model on the active backend, in the order of a checkpoint.
 *
 * @param scale determines the deviations of initial values; by default those of the standard parametrization
 */
export function makeParameters(
  model: ModelConfig,
  source: TensorSource,
  scale: ShapeScale = shapeScale(model, null),
): TransformerParameters {
  const { d_model: D, d_ff: F, vocab_size: V, n_layers: layers, routing } = model;
  const roles = new Map<Parameter, TensorRole>();
  const make = ({ name, parts, role }: ParameterSpec) => {
    const names = parts.map((part) => part.name);
    const parameter = new Parameter(name, stacked(parts, source), names);
    roles.set(parameter, role);
    return parameter;
  };
  const single = (part: TensorSpec, role: TensorRole) => make({ name: part.name, parts: [part], role });
  const matrixOf = (role: MatrixRole, name: string, rows: number, columns: number): TensorSpec => ({
    name,
    shape: [rows, columns],
    init: { kind: 'normal', std: initialDeviation(role, scale) },
  });
  const matrix = (role: MatrixRole, name: string, rows: number, columns: number) =>
    single(matrixOf(role, name, rows, columns), role);
  const gain = (name: string) => single({ name, shape: [D], init: { kind: 'ones' } }, 'vector');

  const mlp = (at: (name: string) => string): Pick<BlockParameters, 'expertRouter' | 'up' | 'down'> => {
    const { experts } = model;
    const parts = {
      up: { role: 'hidden', of: (name: string) => matrixOf('hidden', name, F, D) },
      down: { role: 'mlp output', of: (name: string) => matrixOf('mlp output', name, D, F) },
    } as const;
    if (experts === null) {
      const of = (which: keyof typeof parts) =>
        single(parts[which].of(at(`mlp.${which}_proj.weight`)), parts[which].role);
      return { expertRouter: null, up: of('up'), down: of('down') };
    }
    const each = (which: keyof typeof parts) =>
      make({
        name: at(`mlp.experts.${which}_proj.weight`),
        parts: Array.from({ length: experts.count }, (_, e) =>
          parts[which].of(at(`mlp.experts.${e}.${which}_proj.weight`)),
        ),
        role: parts[which].role,
      });
    const router = matrix('router', at('mlp.router.weight'), expertChoices(experts), D);
    return { expertRouter: router, up: each('up'), down: each('down') };
  };
  const block = (i: number): BlockParameters => {
    const at = (name: string) => `blocks.${i}.${name}`;
    return {
      attnNorm: gain(at('attn_norm.weight')),
      qkv: make({
        name: at('attn.qkv_proj.weight'),
        parts: ['q', 'k', 'v'].map((which) => matrixOf('hidden', at(`attn.${which}_proj.weight`), D, D)),
        role: 'hidden',
      }),
      attnOut: matrix('attention output', at('attn.o_proj.weight'), D, D),
      mlpNorm: gain(at('mlp_norm.weight')),
      ...mlp(at),
      routed: routing !== null && isRouted(model, i) ? routed(routing, at) : null,
    };
  };
  const routed = (routing: RoutingConfig, at: (name: string) => string): RoutedParameters => {
    const maker: ParameterMaker = {
      matrix: (role, name, rows, columns) => matrix(role, at(name), rows, columns),
      bias: (name, size) => single({ name: at(name), shape: [size], init: { kind: 'zeros' } }, 'vector'),
    };
    return ROUTERS[routing.router].parameters(model, routing, maker);
  };

  return {
    tokenEmbedding: matrix('embedding', 'tok_embed.weight', V, D),
    blocks: Array.from({ length: layers }, (_, i) => block(i)),
    finalNorm: gain('final_norm.weight'),
    lmHead: model.tie_embeddings ? null : matrix('embedding', 'lm_head.weight', V, D),
    roles,
  };
}

/** All parameters, in the order in which makeParameters makes them. */
export function listParameters(parameters: TransformerParameters): Parameter[] {
  const ofBlock = (block: BlockParameters): Parameter[] => {
    const { routed, ...dense } = block;
    const own = Object.values(dense).filter((parameter) => parameter !== null);
    const predictor = routed?.predictor == null ? [] : Object.values(routed.predictor as object);
    return [...own, ...(routed?.router ? [routed.router] : []), ...predictor];
  };
  return [
    parameters.tokenEmbedding,
    ...parameters.blocks.flatMap(ofBlock),
    parameters.finalNorm,
    ...(parameters.lmHead === null ? [] : [parameters.lmHead]),
  ];
}

function stacked(parts: TensorSpec[], source: TensorSource): Tensor {
  const [first] = parts as [TensorSpec];
  const size = first.shape.reduce((a, b) => a * b, 1);
  const [rows, ...rest] = first.shape as [number, ...number[]];
  const firstValues = source(first);
  if (parts.length === 1 && firstValues.length === size) return tensor(firstValues, [rows, ...rest]);
  const values = new Float32Array(size * parts.length);
  parts.forEach((part, i) => {
    values.set(i === 0 ? firstValues : source(part), i * size);
  });
  return tensor(values, [rows * parts.length, ...rest]);
}
