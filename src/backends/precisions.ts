/** The number formats of the matrix products. */

export const PRECISIONS = ['fp32', 'bf16'] as const;
export type Precision = (typeof PRECISIONS)[number];

/** `auto`: the fastest that the backend supports. */
export const REQUESTED_PRECISIONS = ['auto', ...PRECISIONS] as const;
export type RequestedPrecision = (typeof REQUESTED_PRECISIONS)[number];
