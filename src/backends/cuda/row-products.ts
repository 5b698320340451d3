/**
 * Products over very many rows that give a small matrix, as the gradient of a weight: by cuBLASLt in one, or as a batch over
 * parts of the rows whose results are added up. A small result has too few tiles to keep a GPU busy, and of the ways that
 * cuBLASLt has to divide such a sum not every one is offered for every shape.
 */
import type { Tensor } from '@tensorflow/tfjs-core';
import type { Call } from './call.js';
import { nameOf, type Product } from './cublas.js';
import type { Address } from './driver.js';
import { sumChunksInto } from './sums.js';

/** Parts that are tried. */
const PARTS = [8, 32, 128];
/** Rows that a part has at least. */
const LEAST_ROWS = 512;

/** y = aᵀ·b as `product` says, float32: the fastest of the ways, always in the same order of additions. */
export function productOfRows(call: Call, product: Product, [a, b]: [Address, Address], y: Tensor): void {
  const { cublas } = call.backend;
  const whole = () => cublas.multiply(product, a, b, call.at(y));
  const partials: Record<number, Address> = {}; // made once, however often a way is tried
  const inParts = PARTS.filter((parts) => mayDivide(product, parts)).map((parts) => () => {
    partials[parts] ??= call.scratch(4 * parts * y.size);
    cublas.multiply({ ...product, k: product.k / parts, batches: parts }, a, b, partials[parts]);
    sumChunksInto(call, partials[parts], parts, [y]);
  });
  const ways = [whole, ...inParts];
  const tuning = ways.length === 1 ? null : cublas.tuning();
  ways[tuning?.quickest(`${nameOf(product)}, whole or in parts`, ways) ?? 0]?.();
}

/** Where parts are not too short, and their results less than a quarter of what is read. */
function mayDivide({ m, n, k, accumulate }: Product, parts: number): boolean {
  const [partialBytes, readBytes] = [4 * parts * m * n, 2 * k * (m + n)];
  return !accumulate && k % parts === 0 && k / parts >= LEAST_ROWS && partialBytes < readBytes / 4;
}
