/** Peak FLOP/s and memory bandwidth of GPUs by NVIDIA's data sheets, for model FLOPs utilization and rooflines. */
import type { Precision } from '../../precisions.js';

/**
 * FLOP/s of dense bf16 products with float32 sums and of float32 products without tensor cores; bytes per second of the
 * memory, of the fastest variant of a card.
 */
const PEAKS: [name: RegExp, bf16: number, fp32: number, bandwidth: number][] = [
  [/\bB200\b/, 2250e12, 80e12, 8000e9],
  [/\bH200\b|\bGH200\b/, 989.4e12, 66.9e12, 4800e9],
  [/H100.*(SXM|HBM3)/, 989.4e12, 66.9e12, 3352e9],
  [/\bH100\b.*NVL/, 835e12, 60e12, 3938e9],
  [/\bH100\b/, 756e12, 51.2e12, 2039e9],
  [/\bA100\b/, 312e12, 19.5e12, 2039e9],
  [/\bA40\b/, 149.7e12, 37.4e12, 696e9],
  [/\bA10G?\b/, 125e12, 31.2e12, 600e9],
  [/\bL40S\b/, 362e12, 91.6e12, 864e9],
  [/\bL40\b/, 181e12, 90.5e12, 864e9],
  [/\bL4\b/, 121e12, 30.3e12, 300e9],
  [/RTX 4090/, 165.2e12, 82.6e12, 1008e9],
  [/RTX 3090/, 71e12, 35.6e12, 936e9],
];

/** Peak FLOP/s of a GPU by the driver's name for it; null if unknown. */
export function peakFlops(device: string, precision: Precision): number | null {
  const found = PEAKS.find(([name]) => name.test(device));
  if (found === undefined) return null;
  const [, bf16, fp32] = found;
  return precision === 'bf16' ? bf16 : fp32;
}

/** Peak bytes per second of a GPU's memory; null if unknown. */
export function peakBandwidth(device: string): number | null {
  return PEAKS.find(([name]) => name.test(device))?.[3] ?? null;
}
