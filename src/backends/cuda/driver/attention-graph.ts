/**
 * Causal attention as cuDNN graphs, forward and backward: 14 and 22 operations that its engines fuse into one kernel each.
 * They equal those of NVIDIA's cudnn-frontend in every attribute.
 */
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { type Cudnn, DESCRIPTOR, Descriptor } from './cudnn.js';

/** A digest of this file: a plan on disk is of the graphs as they were. */
export const GRAPH_DIGEST: string = createHash('sha256')
  .update(readFileSync(fileURLToPath(import.meta.url)))
  .digest('hex');

/** Heads of size K over n tokens of B sequences, read from packed rows of q, k and v. */
export interface AttentionShape {
  batch: number;
  heads: number;
  n: number;
  size: number;
}

/** Unique ids of the tensors that are passed with each execution. */
export const TENSOR = {
  q: 1,
  k: 2,
  v: 3,
  out: 4,
  logSumExp: 5,
  dout: 6,
  dq: 7,
  dk: 8,
  dv: 9,
  delta: 10,
  dqSum: 11,
  scale: 12,
  minusInfinity: 13,
  one: 14,
} as const;

const DATA = { float: 0, int32: 4, bf16: 9, boolean: 11 } as const;
const POINTWISE = {
  add: 0,
  multiply: 1,
  divide: 6,
  subtract: 9,
  exp: 13,
  log: 15,
  identity: 21,
  greaterOrEqual: 303,
  index: 501,
  select: 601,
} as const;
const REDUCE = { add: 0, max: 3 } as const;
const ALIGNMENT = 16;
const FIRST_VIRTUAL_ID = 1000;

type Kind = 'given' | 'virtual' | 'by value';

class Graph {
  readonly operations: Descriptor[] = [];
  private nextId = FIRST_VIRTUAL_ID;

  constructor(
    private readonly cudnn: Cudnn,
    private readonly shape: AttentionShape,
  ) {}

  /** A tensor of scores or weights, [B, H, n, n]. */
  square(dataType: number = DATA.float, transposed = false): Descriptor {
    const { batch, heads, n } = this.shape;
    const strides = [heads * n * n, n * n, ...(transposed ? [1, n] : [n, 1])];
    return this.tensor([batch, heads, n, n], strides, dataType, 'virtual');
  }

  /** One number per row, [B, H, n, 1]. */
  row(id?: number): Descriptor {
    const { batch, heads, n } = this.shape;
    return this.tensor(
      [batch, heads, n, 1],
      [heads * n, n, 1, 1],
      DATA.float,
      id === undefined ? 'virtual' : 'given',
      id,
    );
  }

  /** q, k, v or their gradients in packed rows [B, n, 3, H, K]; `transposed` swaps the last two dimensions. */
  packed(id: number, transposed = false): Descriptor {
    const { batch, heads, n, size } = this.shape;
    const width = 3 * heads * size;
    return transposed
      ? this.tensor([batch, heads, size, n], [n * width, size, 1, width], DATA.bf16, 'given', id)
      : this.tensor([batch, heads, n, size], [n * width, size, width, 1], DATA.bf16, 'given', id);
  }

  /** An output with heads merged, [B, n, H·K]. */
  merged(id: number): Descriptor {
    const { batch, heads, n, size } = this.shape;
    const strides = [n * heads * size, size, heads * size, 1];
    return this.tensor([batch, heads, n, size], strides, DATA.bf16, 'given', id);
  }

  /** A float32 number, passed with each execution. */
  scalar(id: number): Descriptor {
    return this.tensor([1, 1, 1, 1], [1, 1, 1, 1], DATA.float, 'by value', id);
  }

  tensor(
    dimensions: number[],
    strides: number[],
    dataType: number,
    kind: Kind,
    id = this.nextId++,
  ): Descriptor {
    const tensor = new Descriptor(this.cudnn, DESCRIPTOR.tensor)
      .set(901, 'dataType', [dataType])
      .set(902, 'int64', dimensions)
      .set(903, 'int64', strides)
      .set(906, 'int64', [id])
      .set(900, 'int64', [ALIGNMENT]);
    if (kind === 'virtual') tensor.set(907, 'boolean', [1]);
    if (kind === 'by value') tensor.set(908, 'boolean', [1]);
    return tensor.finalize();
  }

  pointwise(
    mode: number,
    x: Descriptor,
    y: Descriptor,
    more: { b?: Descriptor; t?: Descriptor; precision?: number; axis?: number } = {},
  ): Descriptor {
    const pointwise = new Descriptor(this.cudnn, DESCRIPTOR.pointwise)
      .set(0, 'pointwiseMode', [mode])
      .set(1, 'dataType', [more.precision ?? DATA.float]);
    if (more.axis !== undefined) pointwise.set(9, 'int64', [more.axis]);
    const operation = new Descriptor(this.cudnn, DESCRIPTOR.pointwiseOperation)
      .set(750, 'descriptor', [pointwise.finalize().address])
      .set(751, 'descriptor', [x.address])
      .set(753, 'descriptor', [y.address]);
    if (more.b !== undefined) operation.set(752, 'descriptor', [more.b.address]);
    if (more.t !== undefined) operation.set(758, 'descriptor', [more.t.address]);
    this.operations.push(operation.set(754, 'float', [1]).set(755, 'float', [1]).finalize());
    return y;
  }

  reduce(operator: number, x: Descriptor, y: Descriptor): Descriptor {
    const reduction = new Descriptor(this.cudnn, DESCRIPTOR.reduction)
      .set(1601, 'dataType', [DATA.float])
      .set(1600, 'reductionOperator', [operator])
      .set(1602, 'boolean', [0])
      .finalize();
    this.operations.push(
      new Descriptor(this.cudnn, DESCRIPTOR.reductionOperation)
        .set(1612, 'descriptor', [reduction.address])
        .set(1610, 'descriptor', [x.address])
        .set(1611, 'descriptor', [y.address])
        .finalize(),
    );
    return y;
  }

  multiply(a: Descriptor, b: Descriptor, c: Descriptor): Descriptor {
    const matmul = new Descriptor(this.cudnn, DESCRIPTOR.matmul)
      .set(1500, 'dataType', [DATA.float])
      .finalize();
    this.operations.push(
      new Descriptor(this.cudnn, DESCRIPTOR.matmulOperation)
        .set(1520, 'descriptor', [a.address])
        .set(1521, 'descriptor', [b.address])
        .set(1522, 'descriptor', [c.address])
        .set(1523, 'descriptor', [matmul.address])
        .finalize(),
    );
    return c;
  }

  reshape(x: Descriptor, y: Descriptor): Descriptor {
    this.operations.push(
      new Descriptor(this.cudnn, DESCRIPTOR.reshapeOperation)
        .set(2200, 'descriptor', [x.address])
        .set(2201, 'descriptor', [y.address])
        .finalize(),
    );
    return y;
  }

  /** Masked scores: minus infinity in the columns after each row's own. */
  causal(scores: Descriptor): Descriptor {
    const row = this.pointwise(POINTWISE.index, scores, this.square(DATA.int32), { axis: 2 });
    const column = this.pointwise(POINTWISE.index, scores, this.square(DATA.int32), { axis: 3 });
    const visible = this.pointwise(POINTWISE.greaterOrEqual, row, this.square(DATA.boolean), {
      b: column,
      precision: DATA.boolean,
    });
    const b = this.scalar(TENSOR.minusInfinity);
    return this.pointwise(POINTWISE.select, scores, this.square(), { b, t: visible });
  }
}

/** The operations of the forward pass: out = softmax(scale·q·kᵀ, causal)·v, and logSumExp of the scaled scores. */
export function forwardGraph(cudnn: Cudnn, shape: AttentionShape): Descriptor[] {
  const g = new Graph(cudnn, shape);
  const [q, kT, v] = [g.packed(TENSOR.q), g.packed(TENSOR.k, true), g.packed(TENSOR.v)];
  const [out, logSumExp] = [g.merged(TENSOR.out), g.row(TENSOR.logSumExp)];
  const products = g.multiply(q, kT, g.square());
  const scaled = g.pointwise(POINTWISE.multiply, products, g.square(), { b: g.scalar(TENSOR.scale) });
  const scores = g.causal(scaled);
  const top = g.reduce(REDUCE.max, scores, g.row());
  const shifted = g.pointwise(POINTWISE.subtract, scores, g.square(), { b: top });
  const weights = g.pointwise(POINTWISE.exp, shifted, g.square());
  const total = g.reduce(REDUCE.add, weights, g.row());
  const logTotal = g.pointwise(POINTWISE.log, total, g.row());
  g.pointwise(POINTWISE.add, top, logSumExp, { b: logTotal });
  const shares = g.pointwise(POINTWISE.divide, weights, g.square(DATA.bf16), { b: total });
  g.multiply(shares, v, out);
  return g.operations;
}

/**
 * The operations of the backward pass: dq, dk and dv. dq is summed in any order, in float32 memory of the caller; the
 * deterministic graph writes it directly and needs a larger workspace.
 */
export function backwardGraph(cudnn: Cudnn, shape: AttentionShape, deterministic: boolean): Descriptor[] {
  const { batch, heads, n, size } = shape;
  const g = new Graph(cudnn, shape);
  const [q, kT, vT] = [g.packed(TENSOR.q), g.packed(TENSOR.k, true), g.packed(TENSOR.v, true)];
  const [out, dout, logSumExp] = [g.merged(TENSOR.out), g.merged(TENSOR.dout), g.row(TENSOR.logSumExp)];
  const [dq, dk, dv] = [g.packed(TENSOR.dq), g.packed(TENSOR.dk), g.packed(TENSOR.dv)];
  const [delta, scale] = [g.row(TENSOR.delta), g.scalar(TENSOR.scale)];
  const outStrides = [heads * n * size, n * size, heads * size, 1]; // not the packed strides, as in cudnn-frontend
  const doutOut = g.pointwise(
    POINTWISE.multiply,
    dout,
    g.tensor([batch, heads, n, size], outStrides, DATA.float, 'virtual'),
    { b: out },
  );
  const rowSums = g.reduce(REDUCE.add, doutOut, g.row());
  g.pointwise(POINTWISE.multiply, rowSums, delta, { b: g.scalar(TENSOR.one) });

  const products = g.multiply(q, kT, g.square());
  const scaled = g.pointwise(POINTWISE.multiply, products, g.square(), { b: scale });
  const shifted = g.pointwise(POINTWISE.subtract, scaled, g.square(), { b: logSumExp });
  const weights = g.pointwise(POINTWISE.exp, g.causal(shifted), g.square());
  g.multiply(g.reshape(weights, g.square(DATA.bf16, true)), dout, dv);

  const dWeights = g.multiply(dout, vT, g.square());
  const centred = g.pointwise(POINTWISE.subtract, dWeights, g.square(), { b: delta });
  const weighted = g.pointwise(POINTWISE.multiply, centred, g.square(), { b: weights });
  const dScores = g.pointwise(POINTWISE.multiply, weighted, g.square(), { b: scale });
  g.multiply(g.reshape(dScores, g.square(DATA.bf16, true)), q, dk);

  const width = 3 * heads * size;
  const k = g.tensor([batch, heads, n, size], [n * width, size, width, 1], DATA.float, 'virtual');
  g.reshape(kT, k);
  if (deterministic) {
    g.multiply(dScores, k, dq);
  } else {
    const strides = [heads * n * size, n * size, size, 1];
    const sum = g.tensor([batch, heads, n, size], strides, DATA.float, 'given', TENSOR.dqSum);
    g.multiply(dScores, k, sum);
    g.pointwise(POINTWISE.identity, sum, dq);
  }
  return g.operations;
}
