/**
 * The products of an MLP that gelu goes with: taken along by cuBLASLt where it can, or in one pass behind the product. Which
 * is faster depends on the shape: a batch of experts has far fewer fused kernels to choose from.
 */
import type { Tensor } from '@tensorflow/tfjs-core';
import type { Call } from './call.js';
import { type Epilogue, nameOf, type Product } from './cublas.js';
import type { Address } from './driver.js';
import { overElements } from './elementwise.js';

/** before = a·b as `product` says, after = gelu(before). */
export function productAndGelu(
  call: Call,
  product: Product,
  [a, b]: [Address, Address],
  before: Tensor,
  after: Tensor,
): void {
  const { cublas } = call.backend;
  quickest(call, product, 'gelu', {
    fused: (fused) => cublas.multiply(fused, a, b, call.at(after), call.at(before)),
    apart: () => {
      cublas.multiply(product, a, b, call.at(before));
      overElements(call, 'gelu', before.size, [before, after]);
    },
  });
}

/** dbefore = a·b as `product` says, times gelu's slope at `before`. */
export function productAndSlope(
  call: Call,
  product: Product,
  [a, b]: [Address, Address],
  before: Tensor,
  dbefore: Tensor,
): void {
  const { cublas } = call.backend;
  const at = call.activation(before);
  quickest(call, product, 'gelu slope', {
    fused: (fused) => cublas.multiply(fused, a, b, call.at(dbefore), at),
    apart: () => {
      cublas.multiply(product, a, b, call.at(dbefore));
      overElements(call, 'geluGrad', before.size, [dbefore, before, dbefore]);
    },
  });
}

/** Runs the way that is faster here, or fused where nothing may be measured; apart where cuBLASLt has no such product. */
function quickest(
  { backend: { activations, cublas } }: Call,
  product: Product,
  epilogue: Epilogue,
  ways: { fused: (product: Product) => void; apart: () => void },
): void {
  const fused = { ...product, epilogue };
  if (activations !== 'bfloat16' || product.n % 8 !== 0 || !cublas.supports(fused)) {
    ways.apart();
    return;
  }
  const both = [() => ways.fused(fused), ways.apart];
  const chosen = cublas.tuning()?.quickest(`${nameOf(fused)}, fused or apart`, both) ?? 0;
  both[chosen]?.();
}
