/** How a sweep file writes a learning rate: `auto`, a number, or a multiple of the default such as `0.7x`. */
import type { WrittenNumber } from './document.js';

/** `0.7x`: 0.7 times the default rate of `parametrization: complete`. */
export class RateMultiple {
  constructor(
    readonly value: number,
    readonly text: string,
  ) {}
}

export type WrittenRate = 'auto' | WrittenNumber | RateMultiple;

/** The multiple that a text writes; null for another text. */
export function rateMultiple(text: string): RateMultiple | null {
  const [, digits] = /^((?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?)x$/i.exec(text) ?? [];
  const value = Number(digits);
  return digits === undefined || !(value > 0 && Number.isFinite(value))
    ? null
    : new RateMultiple(value, text);
}
