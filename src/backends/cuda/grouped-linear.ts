/** The products of experts on cuda: all experts in one call, gelu taken into it where cuBLASLt can. */
import {
  groupedLinearGradInputKernel,
  groupedLinearGradWeightKernel,
  groupedLinearKernel,
} from '../../ops/grouped-linear.js';
import { groupedLinearGeluKernel, groupedLinearGradInputGeluKernel } from '../../ops/grouped-mlp.js';
import { type Call, registerCudaKernel, rowsOf } from './call.js';
import type { Product } from './cublas.js';
import { overElements } from './elementwise.js';

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
    const [a, b] = [call.activation(x), call.weight(weight)];
    const fused = { ...product, epilogue: 'gelu' } as const;
    if (takesEpilogue(call, fused)) {
      call.backend.cublas.multiply(fused, a, b, call.at(after), call.at(before));
    } else {
      call.backend.cublas.multiply(product, a, b, call.at(before));
      overElements(call, 'gelu', before.size, [before, after]);
    }
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
    const [a, b, at] = [call.activation(dy), call.weight(weight), call.activation(before)];
    const fused = { ...product, epilogue: 'gelu slope' } as const;
    if (takesEpilogue(call, fused)) {
      call.backend.cublas.multiply(fused, a, b, call.at(dbefore), at);
    } else {
      call.backend.cublas.multiply(product, a, b, call.at(dbefore));
      overElements(call, 'geluGrad', before.size, [dbefore, before, dbefore]);
    }
    return [dbefore];
  });

  registerCudaKernel(groupedLinearGradWeightKernel, (call, { dy, x, sofar }, { experts }) => {
    const [rows, outer] = rowsOf(dy);
    const [, inner] = rowsOf(x);
    const { sum, accumulate } = call.accumulator(sofar, [experts * outer, inner], 'float32');
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

/** Whether cuBLASLt takes gelu into a product of batches. */
function takesEpilogue(call: Call, product: Product): boolean {
  const { activations, cublas } = call.backend;
  if (process.env.MOD_GROUPED_SEPARATE === '1' && product.epilogue === 'gelu slope') return false;
  return activations === 'bfloat16' && product.n % 8 === 0 && cublas.supports(product);
}
