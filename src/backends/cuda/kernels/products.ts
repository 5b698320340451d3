/**
 * cuBLASLt products of activations, alone or with the gelu of an MLP: fused by cuBLASLt if it can, or in one pass after the
 * product. Which is faster depends on the shape: a batch of experts has far fewer fused kernels to choose from.
 */
import type { Tensor } from '@tensorflow/tfjs-core';
import type { Call } from '../driver/call.js';
import { type Epilogue, nameOf, type Product } from '../driver/cublas.js';
import type { Address } from '../driver/driver.js';
import { overElements } from './elementwise.js';

export type Sides = Pick<Product, 'm' | 'n' | 'k' | 'transposeB' | 'alpha'> & { transposeA?: boolean };

/** The description of a product of activations whose result is stored as an activation. */
export function activationProduct({ backend }: Call, sides: Sides): Product {
  const { activations } = backend;
  return { transposeA: false, ...sides, operands: activations, result: activations, accumulate: false };
}

/** before = α·a·b of `product`, after = gelu(before). */
export function productAndGelu(
  call: Call,
  product: Product,
  [a, b]: [Address, Address],
  before: Tensor,
  after: Tensor,
): void {
  const { cublas } = call.backend;
  runFaster(call, product, 'gelu', {
    fused: (fused) => cublas.multiply(fused, a, b, call.at(after), call.at(before)),
    separate: () => {
      cublas.multiply(product, a, b, call.at(before));
      overElements(call, 'gelu', before.size, [before, after]);
    },
  });
}

/** dbefore = α·a·b of `product`, multiplied by gelu's derivative at `before`. */
export function productAndSlope(
  call: Call,
  product: Product,
  [a, b]: [Address, Address],
  before: Tensor,
  dbefore: Tensor,
): void {
  const { cublas } = call.backend;
  const at = call.activation(before);
  runFaster(call, product, 'gelu slope', {
    fused: (fused) => cublas.multiply(fused, a, b, call.at(dbefore), at),
    separate: () => {
      cublas.multiply(product, a, b, call.at(dbefore));
      overElements(call, 'geluGrad', before.size, [dbefore, before, dbefore]);
    },
  });
}

/** Runs the faster variant: the fused one if nothing may be measured, the separate one if cuBLASLt cannot fuse it. */
function runFaster(
  { backend: { activations, cublas } }: Call,
  product: Product,
  epilogue: Epilogue,
  variants: { fused: (product: Product) => void; separate: () => void },
): void {
  const fused = { ...product, epilogue };
  if (activations !== 'bfloat16' || product.n % 8 !== 0 || !cublas.supports(fused)) {
    variants.separate();
    return;
  }
  const both = [() => variants.fused(fused), variants.separate];
  const chosen = cublas.tuning()?.fastestVariant(`${nameOf(fused)}, fused or separate`, both) ?? 0;
  both[chosen]?.();
}
