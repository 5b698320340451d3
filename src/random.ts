/**
 * Random streams by name: a seed and keys ('init', a tensor's name; 'batches', an epoch) determine a stream, so that no
 * random state is ever saved and the numbers are the same on every backend.
 */
import { createHash } from 'node:crypto';
import { xoroshiro128plusFromState } from 'pure-rand/generator/xoroshiro128plus';
import type { RandomGenerator } from 'pure-rand/types/RandomGenerator';

export class RandomStream {
  constructor(private readonly generator: RandomGenerator) {}

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
