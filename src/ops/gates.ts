/**
 * The gates: functions of the router weight r of a selected token, by whose value the block's output is multiplied (Raposo et
 * al. 2024, equation 1). One table for the composed op and for the backends that compute on the host.
 */
import { mul, onesLike, sigmoid, sub, type Tensor } from '@tensorflow/tfjs-core';

export const GATE_NAMES = ['raw', 'sigmoid'] as const;
export type Gate = (typeof GATE_NAMES)[number];

interface GateFunctions {
  /** gate(r), for one number. */
  value: (r: number) => number;
  /** gate'(r), for one number. */
  slope: (r: number) => number;
  /** gate(r), elementwise, on any tfjs backend. */
  values: (r: Tensor) => Tensor;
  /** gate'(r), elementwise, on any tfjs backend. */
  slopes: (r: Tensor) => Tensor;
}

const logistic = (r: number): number => 1 / (1 + Math.exp(-r));

export const GATES: Record<Gate, GateFunctions> = {
  raw: {
    value: (r) => r,
    slope: () => 1,
    values: (r) => r,
    slopes: (r) => onesLike(r),
  },
  sigmoid: {
    value: logistic,
    slope: (r) => logistic(r) * (1 - logistic(r)),
    values: (r) => sigmoid(r),
    slopes: (r) => {
      const value = sigmoid(r);
      return mul(value, sub(1, value));
    },
  },
};
