/** A seeded permutation of 0..n-1 with random access and no memory: the order in which an epoch visits its windows. */
import { randomStream } from '../random.js';

const ROUNDS = 8;

/**
 * A Feistel network over the smallest even number of bits that represents `size` values, iterated until the value is back
 * in range (Black and Rogaway 2002, "Ciphers with arbitrary finite domains", method 3): fewer than 4 passes on average.
 *
 * @param size n, at most 2⁵²
 * @param seed, keys name of the random stream that keys the rounds
 * @returns the function i -> position of i, both in 0..n-1
 */
export function permutation(
  size: number,
  seed: number,
  ...keys: (string | number)[]
): (index: number) => number {
  const halfBits = Math.max(1, Math.ceil(Math.log2(size) / 2));
  const half = 2 ** halfBits;
  const stream = randomStream(seed, 'permutation', ...keys);
  const roundKeys = Array.from({ length: ROUNDS }, () => stream.bits());

  const encrypt = (value: number): number => {
    let left = Math.floor(value / half);
    let right = value % half;
    for (const key of roundKeys) {
      // The high bits of the mixed word: those that depend on all of its bits.
      const mixed = mix((right ^ key) >>> 0) >>> (32 - halfBits);
      [left, right] = [right, (left ^ mixed) >>> 0];
    }
    return left * half + right;
  };

  return (index) => {
    let value = encrypt(index);
    while (value >= size) value = encrypt(value);
    return value;
  };
}

/** Every bit of the result depends on every bit of the argument (the finalizer of MurmurHash3). */
function mix(word: number): number {
  let h = word;
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return (h ^ (h >>> 16)) >>> 0;
}
