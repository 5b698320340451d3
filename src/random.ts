/**
 * Random streams by name: a seed and keys ('init', a tensor's name; 'batches', an epoch) determine a stream, so that no
 * random state is ever saved and the numbers are the same on every backend.
 */
import { createHash } from 'node:crypto';
import { xoroshiro128plusFromState } from 'pure-rand/generator/xoroshiro128plus';
import type { RandomGenerator } from 'pure-rand/types/RandomGenerator';

export class RandomStream {
  constructor(private readonly generator: RandomGenerator) {}

  /** The state, from which another thread can continue: see streamAfter. */
  get state(): readonly number[] {
    return this.generator.getState();
  }

  /** Uniform in (0, 1), both ends excluded: the midpoints of 2⁵² equal intervals. */
  uniform(): number {
    // The generator's lowest bits are its weakest and are dropped. With a 53rd bit the largest value would round to 1.
    const high = this.generator.next() >>> 6;
    const low = this.generator.next() >>> 6;
    return (high * 2 ** 26 + low + 0.5) / 2 ** 52;
  }

  /** One N(0, 1) number. */
  normal(): number {
    return Math.sqrt(-2 * Math.log(this.uniform())) * Math.cos(2 * Math.PI * this.uniform());
  }

  /** Fills with independent N(0, std²) numbers (Box and Muller 1958), two from each pair of uniform numbers. */
  fillNormal(out: Float32Array, std: number): void {
    for (let i = 0; i < out.length; i += 2) {
      const radius = std * Math.sqrt(-2 * Math.log(this.uniform()));
      const angle = 2 * Math.PI * this.uniform();
      out[i] = radius * Math.cos(angle);
      if (i + 1 < out.length) out[i + 1] = radius * Math.sin(angle);
    }
  }

  /** 32 random bits as an integer in [0, 2³²). */
  bits(): number {
    return this.generator.next() >>> 0;
  }
}

/** The stream of a seed and keys: equal arguments give equal numbers, different ones independent numbers. */
export function randomStream(seed: number, ...keys: (string | number)[]): RandomStream {
  const digest = createHash('sha256')
    .update(JSON.stringify([seed, ...keys]))
    .digest();
  const state = [0, 4, 8, 12].map((at) => digest.readInt32LE(at));
  return new RandomStream(xoroshiro128plusFromState(state));
}

/** The stream that a state had or will have reached after `numbers` numbers of fillNormal, an even number. */
export function streamAfter(state: readonly number[], numbers: number): RandomStream {
  let after: ArrayLike<number> = state;
  // Each number takes two calls of the generator. Their number in binary selects the powers.
  for (let [power, calls] = [0, 2 * numbers]; calls > 0; power++, calls = Math.floor(calls / 2)) {
    if (calls % 2 === 1) after = applied(powerOfTwo(power), after);
  }
  return new RandomStream(xoroshiro128plusFromState(Array.from(after)));
}

/** A linear map of the generator's 128 bits over GF(2): the images of the single bits, four words each. */
type BitMatrix = Int32Array;

/** The generator's transition 2^k times, by k. */
const powers: BitMatrix[] = [];

function powerOfTwo(k: number): BitMatrix {
  powers[0] ??= columns((bit) => {
    const generator = xoroshiro128plusFromState(bit);
    generator.next();
    return generator.getState();
  });
  for (let i = powers.length; i <= k; i++) {
    const half = powers[i - 1] as BitMatrix;
    powers.push(columns((bit) => applied(half, applied(half, bit))));
  }
  return powers[k] as BitMatrix;
}

function columns(image: (bit: number[]) => ArrayLike<number>): BitMatrix {
  const matrix = new Int32Array(128 * 4);
  for (let i = 0; i < 128; i++) {
    const bit = [0, 0, 0, 0];
    bit[i >> 5] = 1 << (i & 31);
    matrix.set(image(bit), 4 * i);
  }
  return matrix;
}

function applied(matrix: BitMatrix, state: ArrayLike<number>): Int32Array {
  const image = new Int32Array(4);
  for (let i = 0; i < 128; i++) {
    if ((((state[i >> 5] as number) >>> (i & 31)) & 1) === 0) continue;
    for (let word = 0; word < 4; word++)
      image[word] = (image[word] as number) ^ (matrix[4 * i + word] as number);
  }
  return image;
}
