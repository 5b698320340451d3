/** The products of experts on cuda: all experts in one call. */
import {
  groupedLinearGradInputKernel,
  groupedLinearGradWeightKernel,
  groupedLinearKernel,
} from '../../ops/grouped-linear.js';
import { groupedLinearGeluKernel, groupedLinearGradInputGeluKernel } from '../../ops/grouped-mlp.js';
import { type Call, registerCudaKernel, rowsOf } from './call.js';
import type { Product } from './cublas.js';
import { productAndGelu, productAndSlope } from './gelu-products.js';

export function registerGroupedLinear(): void {
  registerCudaKernel(groupedLinearKernel, (call, { x, weight }, { experts }) => {
    const [rows, inner] = rowsOf(x);
    const outer = (weight.shape[0] as number) / experts;
    const y = call.makeActivation([...x.shape.slice(0, -1), outer]);
    const product = productOf(call, experts, { m: rows / experts, n: outer, k: inner, transposeB: true });
    call.backend.cublas.multiply(product, call.activation(x), call.weight(weight), call.at(y));
    return [y];
  });

  registerCudaKernel(groupedLinearGeluKernel, (call, { x, weight }, { experts }) => {
    const [rows, inner] = rowsOf(x);
    const outer = (weight.shape[0] as number) / experts;
    const shape = [...x.shape.slice(0, -1), outer];
    const [after, before] = [call.makeActivation(shape), call.makeActivation(shape)];
    const product = productOf(call, experts, { m: rows / experts, n: outer, k: inner, transposeB: true });
    productAndGelu(call, product, [call.activation(x), call.weight(weight)], before, after);
    return [after, before];
  });

  registerCudaKernel(groupedLinearGradInputKernel, (call, { dy, weight }, { experts }) => {
    const [rows, outer] = rowsOf(dy);
    const inner = weight.shape[1] as number;
    const dx = call.makeActivation([...dy.shape.slice(0, -1), inner]);
    const product = productOf(call, experts, { m: rows / experts, n: inner, k: outer, transposeB: false });
    call.backend.cublas.multiply(product, call.activation(dy), call.weight(weight), call.at(dx));
    return [dx];
  });

  registerCudaKernel(groupedLinearGradInputGeluKernel, (call, { dy, weight, before }, { experts }) => {
    const [rows, outer] = rowsOf(dy);
    const inner = weight.shape[1] as number;
    const dbefore = call.makeActivation(before.shape);
    const product = productOf(call, experts, { m: rows / experts, n: inner, k: outer, transposeB: false });
    productAndSlope(call, product, [call.activation(dy), call.weight(weight)], before, dbefore);
    return [dbefore];
  });

  registerCudaKernel(groupedLinearGradWeightKernel, (call, { dy, x, gradAccum }, { experts }) => {
    const [rows, outer] = rowsOf(dy);
    const [, inner] = rowsOf(x);
    const { sum, accumulate } = call.accumulator(gradAccum, [experts * outer, inner], 'float32');
    const sides = { m: outer, n: inner, k: rows / experts, transposeB: false };
    const product: Product = {
      ...productOf(call, experts, sides),
      transposeA: true,
      result: 'float32',
      accumulate: accumulate === 1,
    };
    call.backend.cublas.multiply(product, call.activation(dy), call.activation(x), call.at(sum));
    return [sum];
  });
}

/** A product of activations for every expert that gives activations. */
function productOf(
  call: Call,
  experts: number,
  sides: Pick<Product, 'm' | 'n' | 'k' | 'transposeB'>,
): Product {
  const { activations } = call.backend;
  const stored = { operands: activations, result: activations, accumulate: false };
  return { ...sides, ...stored, transposeA: false, batches: experts };
}
