/** The parameters of a transformer: their names, shapes and initial values, and how a checkpoint names their parts. */
import { type Tensor, tensor } from '@tensorflow/tfjs-core';
import { Parameter } from '../ops/tape.js';
import { randomStream } from '../random.js';
import { expertChoices, hasPredictor, isRouted, type ModelConfig } from './config.js';

export interface PredictorParameters {
  fc1: Parameter;
  fc1Bias: Parameter;
  fc2: Parameter;
  fc2Bias: Parameter;
}

export interface RoutedParameters {
  /** Null for the random control, which has nothing to learn about routing. */
  router: Parameter | null;
  predictor: PredictorParameters | null;
}

export interface BlockParameters {
  attnNorm: Parameter;
  /** q, k and v as one product: [3D, D]. */
  qkv: Parameter;
  attnOut: Parameter;
  mlpNorm: Parameter;
  /** Of a block with experts: [experts and no-ops, D]. Null: one MLP for all tokens. */
  expertRouter: Parameter | null;
  /** [F, D]; of experts one after another, [E·F, D]. */
  up: Parameter;
  /** [D, F]; of experts one after another, [E·D, F]. */
  down: Parameter;
  /** Null in a dense block. */
  routed: RoutedParameters | null;
}

export interface TransformerParameters {
  tokenEmbedding: Parameter;
  blocks: BlockParameters[];
  finalNorm: Parameter;
  /** Null where the embedding's weights serve. */
  lmHead: Parameter | null;
}

/** A tensor of a checkpoint: its PyTorch name, shape, and how it starts. */
export interface TensorSpec {
  name: string;
  shape: number[];
  init: { kind: 'normal'; std: number } | { kind: 'ones' } | { kind: 'zeros' };
}

const INIT_STD = 0.02;

/** A parameter as the model holds it: one tensor of a checkpoint, or several stacked by rows. */
interface ParameterSpec {
  name: string;
  parts: TensorSpec[];
}

/** Where the values of a checkpoint's tensor come from; values are in row-major order. */
export type TensorSource = (spec: TensorSpec) => Float32Array;

/** Initial values, the same for a seed on every backend. */
export function initialValues(seed: number): TensorSource {
  return ({ name, shape, init }) => {
    const values = new Float32Array(shape.reduce((a, b) => a * b, 1));
    if (init.kind === 'normal') randomStream(seed, 'init', name).fillNormal(values, init.std);
    else if (init.kind === 'ones') values.fill(1);
    return values;
  };
}

/** Makes all parameters of a model on the active backend, in the fixed order of a checkpoint. */
export function makeParameters(model: ModelConfig, source: TensorSource): TransformerParameters {
  const { d_model: D, d_ff: F, vocab_size: V, n_layers: layers } = model;
  const residualStd = INIT_STD / Math.sqrt(2 * layers);
  const make = (spec: ParameterSpec) =>
    new Parameter(
      spec.name,
      stacked(spec.parts, source),
      spec.parts.map((part) => part.name),
    );
  const single = (part: TensorSpec) => make({ name: part.name, parts: [part] });
  const matrix = (name: string, rows: number, columns: number, std = INIT_STD): TensorSpec => ({
    name,
    shape: [rows, columns],
    init: { kind: 'normal', std },
  });
  const gain = (name: string): TensorSpec => ({ name, shape: [D], init: { kind: 'ones' } });

  const mlp = (at: (name: string) => string): Pick<BlockParameters, 'expertRouter' | 'up' | 'down'> => {
    const { experts } = model;
    const parts = {
      up: (name: string) => matrix(name, F, D),
      down: (name: string) => matrix(name, D, F, residualStd),
    };
    if (experts === null) {
      const of = (which: keyof typeof parts) => single(parts[which](at(`mlp.${which}_proj.weight`)));
      return { expertRouter: null, up: of('up'), down: of('down') };
    }
    const each = (which: keyof typeof parts) =>
      make({
        name: at(`mlp.experts.${which}_proj.weight`),
        parts: Array.from({ length: experts.count }, (_, e) =>
          parts[which](at(`mlp.experts.${e}.${which}_proj.weight`)),
        ),
      });
    const router = single(matrix(at('mlp.router.weight'), expertChoices(experts), D));
    return { expertRouter: router, up: each('up'), down: each('down') };
  };
  const block = (i: number): BlockParameters => {
    const at = (name: string) => `blocks.${i}.${name}`;
    return {
      attnNorm: single(gain(at('attn_norm.weight'))),
      qkv: make({
        name: at('attn.qkv_proj.weight'),
        parts: ['q', 'k', 'v'].map((which) => matrix(at(`attn.${which}_proj.weight`), D, D)),
      }),
      attnOut: single(matrix(at('attn.o_proj.weight'), D, D, residualStd)),
      mlpNorm: single(gain(at('mlp_norm.weight'))),
      ...mlp(at),
      routed: isRouted(model, i) ? routed(at) : null,
    };
  };
  const routed = (at: (name: string) => string): RoutedParameters => {
    const routing = model.routing;
    if (routing === null || routing.router === 'random') return { router: null, predictor: null };
    const router = single(matrix(at('router.weight'), 1, D));
    const P = routing.predictor_hidden;
    if (!hasPredictor(routing)) return { router, predictor: null };
    const bias = (name: string, size: number): TensorSpec => ({
      name,
      shape: [size],
      init: { kind: 'zeros' },
    });
    return {
      router,
      predictor: {
        fc1: single(matrix(at('predictor.fc1.weight'), P, D)),
        fc1Bias: single(bias(at('predictor.fc1.bias'), P)),
        fc2: single(matrix(at('predictor.fc2.weight'), 1, P)),
        fc2Bias: single(bias(at('predictor.fc2.bias'), 1)),
      },
    };
  };

  return {
    tokenEmbedding: single(matrix('tok_embed.weight', V, D)),
    blocks: Array.from({ length: layers }, (_, i) => block(i)),
    finalNorm: single(gain('final_norm.weight')),
    lmHead: model.tie_embeddings ? null : single(matrix('lm_head.weight', V, D)),
  };
}

/** All parameters in the order in which they were made. */
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
  const values = new Float32Array(size * parts.length);
  parts.forEach((part, i) => {
    values.set(source(part), i * size);
  });
  const [rows, ...rest] = first.shape as [number, ...number[]];
  return tensor(values, [rows * parts.length, ...rest]);
}
