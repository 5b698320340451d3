/** The linear layers of experts as batched cuBLASLt products: all experts in one call. */
import {
  groupedLinearGradInputKernel,
  groupedLinearGradWeightKernel,
  groupedLinearKernel,
} from '../../../ops/grouped-linear.js';
import { groupedLinearGeluKernel, groupedLinearGradInputGeluKernel } from '../../../ops/grouped-mlp.js';
import { type Call, cudaKernel, rowsOf } from '../driver/call.js';
import type { Product } from '../driver/cublas.js';
import { activationProduct, productAndGelu, productAndSlope, type Sides } from './products.js';

const groupedLinear = cudaKernel(groupedLinearKernel, (call, { x, weight }, { experts, alpha }) => {
  const [rows, inner] = rowsOf(x);
  const outer = weight.shape[0] / experts;
  const y = call.makeActivation([...x.shape.slice(0, -1), outer]);
  const product = batchedProduct(call, experts, {
    m: rows / experts,
    n: outer,
    k: inner,
    transposeB: true,
    alpha,
  });
  call.backend.cublas.multiply(product, call.activation(x), call.weight(weight), call.at(y));
  return [y];
});

const groupedLinearGelu = cudaKernel(groupedLinearGeluKernel, (call, { x, weight }, { experts }) => {
  const [rows, inner] = rowsOf(x);
  const outer = weight.shape[0] / experts;
  const shape = [...x.shape.slice(0, -1), outer];
  const [after, before] = [call.makeActivation(shape), call.makeActivation(shape)];
  const product = batchedProduct(call, experts, { m: rows / experts, n: outer, k: inner, transposeB: true });
  productAndGelu(call, product, [call.activation(x), call.weight(weight)], before, after);
  return [after, before];
});

const groupedLinearGradInput = cudaKernel(
  groupedLinearGradInputKernel,
  (call, { dy, weight }, { experts, alpha }) => {
    const [rows, outer] = rowsOf(dy);
    const inner = weight.shape[1] as number;
    const dx = call.makeActivation([...dy.shape.slice(0, -1), inner]);
    const product = batchedProduct(call, experts, {
      m: rows / experts,
      n: inner,
      k: outer,
      transposeB: false,
      alpha,
    });
    call.backend.cublas.multiply(product, call.activation(dy), call.weight(weight), call.at(dx));
    return [dx];
  },
);

const groupedLinearGradInputGelu = cudaKernel(
  groupedLinearGradInputGeluKernel,
  (call, { dy, weight, before }, { experts, alpha }) => {
    const [rows, outer] = rowsOf(dy);
    const inner = weight.shape[1] as number;
    const dbefore = call.makeActivation(before.shape);
    const product = batchedProduct(call, experts, {
      m: rows / experts,
      n: inner,
      k: outer,
      transposeB: false,
      alpha,
    });
    productAndSlope(call, product, [call.activation(dy), call.weight(weight)], before, dbefore);
    return [dbefore];
  },
);

const groupedLinearGradWeight = cudaKernel(
  groupedLinearGradWeightKernel,
  (call, { dy, x, gradAccum }, { experts, alpha }) => {
    const [rows, outer] = rowsOf(dy);
    const [, inner] = rowsOf(x);
    const { sum, accumulate } = call.accumulator(gradAccum, [experts * outer, inner], 'float32');
    const sides = { m: outer, n: inner, k: rows / experts, transposeA: true, transposeB: false, alpha };
    const product: Product = {
      ...batchedProduct(call, experts, sides),
      result: 'float32',
      accumulate: accumulate === 1,
    };
    call.backend.cublas.multiply(product, call.activation(dy), call.activation(x), call.at(sum));
    return [sum];
  },
);

export const groupedLinearKernels = [
  groupedLinear,
  groupedLinearGelu,
  groupedLinearGradInput,
  groupedLinearGradInputGelu,
  groupedLinearGradWeight,
];

/** activationProduct for every expert, as a batch. */
function batchedProduct(call: Call, experts: number, sides: Sides): Product {
  return { ...activationProduct(call, sides), batches: experts };
}
