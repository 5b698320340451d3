/** Linear, its two gradients and the bias on cuda: cuBLASLt's products, weight gradients added up by the product itself. */
import { type Tensor, util } from '@tensorflow/tfjs-core';
import { biasGradKernel, biasKernel } from '../../ops/bias.js';
import { linearGradInputKernel, linearGradWeightKernel, linearKernel } from '../../ops/linear.js';
import { linearGeluKernel, linearGradInputGeluKernel } from '../../ops/mlp.js';
import { type Call, registerCudaKernel, registerNamed, rowsOf } from './call.js';
import type { Product } from './cublas.js';
import { productAndGelu, productAndSlope } from './gelu-products.js';
import { address, long } from './kernels.js';
import { sumColumns } from './sums.js';

export function registerLinear(): void {
  registerCudaKernel(linearKernel, (call, { x, weight }) => {
    const [rows, inner] = rowsOf(x);
    const outer = weight.shape[0] as number;
    const y = call.makeActivation([...x.shape.slice(0, -1), outer]);
    call.backend.cublas.multiply(
      productOf(call, { m: rows, n: outer, k: inner, transposeA: false, transposeB: true }),
      call.activation(x),
      call.weight(weight),
      call.at(y),
    );
    return [y];
  });

  registerCudaKernel(linearGradInputKernel, (call, { dy, weight }) => {
    const [rows, outer] = rowsOf(dy);
    const inner = weight.shape[1] as number;
    const dx = call.makeActivation([...dy.shape.slice(0, -1), inner]);
    call.backend.cublas.multiply(
      productOf(call, { m: rows, n: inner, k: outer, transposeA: false, transposeB: false }),
      call.activation(dy),
      call.weight(weight),
      call.at(dx),
    );
    return [dx];
  });

  registerCudaKernel(linearGeluKernel, (call, { x, weight }) => {
    const [rows, inner] = rowsOf(x);
    const outer = weight.shape[0] as number;
    const shape = [...x.shape.slice(0, -1), outer];
    const [after, before] = [call.makeActivation(shape), call.makeActivation(shape)];
    const product = productOf(call, { m: rows, n: outer, k: inner, transposeA: false, transposeB: true });
    productAndGelu(call, product, [call.activation(x), call.weight(weight)], before, after);
    return [after, before];
  });

  registerCudaKernel(linearGradInputGeluKernel, (call, { dy, weight, before }) => {
    const [rows, outer] = rowsOf(dy);
    const inner = weight.shape[1] as number;
    const dbefore = call.makeActivation(before.shape);
    const product = productOf(call, { m: rows, n: inner, k: outer, transposeA: false, transposeB: false });
    productAndSlope(call, product, [call.activation(dy), call.weight(weight)], before, dbefore);
    return [dbefore];
  });

  registerCudaKernel(linearGradWeightKernel, (call, { dy, x, gradAccum }) => {
    const [rows, outer] = rowsOf(dy);
    const [, inner] = rowsOf(x);
    const { sum, accumulate } = call.accumulator(gradAccum, [outer, inner], 'float32');
    call.backend.cublas.multiply(
      {
        m: outer,
        n: inner,
        k: rows,
        transposeA: true,
        transposeB: false,
        operands: call.backend.activations,
        result: 'float32',
        accumulate: accumulate === 1,
      },
      call.activation(dy),
      call.activation(x),
      call.at(sum),
    );
    return [sum];
  });

  registerCudaKernel(biasKernel, (call, { x, bias }) => {
    // Logits stay in float32, as they came; activations are stored as activations are.
    const { storage } = call.backend.dataOf(x);
    const wide = storage === 'float32';
    const y = call.make(x.shape, storage);
    call.launch('elementwise', wide ? 'biasFloat' : 'bias', { grid: Math.ceil(x.size / 256), block: 256 }, [
      address(call.at(x)),
      address(call.float(bias)),
      address(call.at(y)),
      long(x.size),
      bias.size,
    ]);
    return [y];
  });

  registerCudaKernel(biasGradKernel, (call, { dy }, { width }) => [
    sumColumns(call, { dy, rows: dy.size / width, width }),
  ]);

  // tfjs' own product of two matrices, which benchmarks compare with.
  registerNamed('BatchMatMul', (call, inputs, attrs) => {
    const [a, b] = [inputs.a as Tensor, inputs.b as Tensor];
    const { transposeA, transposeB } = attrs as { transposeA: boolean; transposeB: boolean };
    util.assert(a.size === rowsOf(a)[0] * rowsOf(a)[1] && isMatrix(a) && isMatrix(b), () => {
      return `the cuda backend multiplies single matrices, not [${a.shape}] by [${b.shape}]`;
    });
    const [rows, columns] = [a.shape.at(-2) as number, a.shape.at(-1) as number];
    const [m, k] = transposeA ? [columns, rows] : [rows, columns];
    const n = (transposeB ? b.shape.at(-2) : b.shape.at(-1)) as number;
    const y = call.makeActivation([1, m, n]);
    call.backend.cublas.multiply(
      productOf(call, { m, n, k, transposeA, transposeB }),
      call.activation(a),
      call.activation(b),
      call.at(y),
    );
    return y;
  });
}

/** A product of activations that gives activations. */
function productOf(call: Call, sides: Pick<Product, 'm' | 'n' | 'k' | 'transposeA' | 'transposeB'>): Product {
  const { activations } = call.backend;
  return { ...sides, operands: activations, result: activations, accumulate: false };
}

/** Whether all dimensions but the last two are 1. */
function isMatrix(x: Tensor): boolean {
  return x.shape.slice(0, -2).every((side) => side === 1);
}
