/** Linear layers and their gradients as cuBLASLt products; weight gradients are accumulated by the product itself. */
import { linearGradInputKernel, linearGradWeightKernel, linearKernel } from '../../../ops/linear.js';
import { linearGeluKernel, linearGradInputGeluKernel } from '../../../ops/mlp.js';
import { cudaKernel, rowsOf } from '../driver/call.js';
import { activationProduct, productAndGelu, productAndSlope } from './products.js';

const linear = cudaKernel(linearKernel, (call, { x, weight }, { alpha }) => {
  const [, inner] = rowsOf(x);
  const y = call.makeProduct([...x.shape.slice(0, -1), weight.shape[0] as number], weight);
  const { at, pitch } = call.rows(y);
  call.backend.cublas.multiply(
    activationProduct(call, { m: call.productRows(x, y), n: pitch, k: inner, transposeB: true, alpha }),
    call.activation(x),
    call.weight(weight),
    at,
  );
  return [y];
});

const linearGradInput = cudaKernel(linearGradInputKernel, (call, { dy, weight }, { alpha }) => {
  const [rows] = rowsOf(dy);
  const inner = weight.shape[1] as number;
  const dx = call.makeActivation([...dy.shape.slice(0, -1), inner]);
  // A padded dy comes from a product with this weight, and is 0 where its rows are padded.
  const { at, pitch } = call.rows(dy);
  call.backend.cublas.multiply(
    activationProduct(call, { m: rows, n: inner, k: pitch, transposeB: false, alpha }),
    at,
    call.weight(weight),
    call.at(dx),
  );
  return [dx];
});

const linearGelu = cudaKernel(linearGeluKernel, (call, { x, weight }) => {
  const [, inner] = rowsOf(x);
  const outer = weight.shape[0] as number;
  const shape = [...x.shape.slice(0, -1), outer];
  const [after, before] = [call.makeActivation(shape), call.makeActivation(shape)];
  const m = call.productRows(x, before, after);
  const product = activationProduct(call, { m, n: outer, k: inner, transposeB: true });
  productAndGelu(call, product, [call.activation(x), call.weight(weight)], before, after);
  return [after, before];
});

const linearGradInputGelu = cudaKernel(
  linearGradInputGeluKernel,
  (call, { dy, weight, before }, { alpha }) => {
    const [rows, outer] = rowsOf(dy);
    const inner = weight.shape[1] as number;
    const dbefore = call.makeActivation(before.shape);
    const product = activationProduct(call, { m: rows, n: inner, k: outer, transposeB: false, alpha });
    productAndSlope(call, product, [call.activation(dy), call.weight(weight)], before, dbefore);
    return [dbefore];
  },
);

const linearGradWeight = cudaKernel(linearGradWeightKernel, (call, { dy, x, gradAccum }, { alpha }) => {
  const [rows, outer] = rowsOf(dy);
  const [, inner] = rowsOf(x);
  // A padded dy gives more rows than the gradient has: they go to memory past its own.
  const capacity = call.rows(dy).pitch * inner;
  const { sum, accumulate } = call.accumulator(gradAccum, [outer, inner], 'float32', capacity);
  const { at, pitch } =
    call.capacity(sum) < capacity ? { at: call.activation(dy), pitch: outer } : call.rows(dy);
  call.backend.cublas.multiply(
    {
      ...activationProduct(call, { m: pitch, n: inner, k: rows, transposeA: true, transposeB: false, alpha }),
      result: 'float32',
      accumulate: accumulate === 1,
    },
    at,
    call.activation(x),
    call.at(sum),
  );
  return [sum];
});

export const linearKernels = [linear, linearGradInput, linearGelu, linearGradInputGelu, linearGradWeight];
