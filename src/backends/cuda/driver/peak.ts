/** Peak FLOP/s and memory bandwidth of GPUs from NVIDIA's data sheets, for model FLOPs utilization and rooflines. */
import type { Precision } from '../../precisions.js';

/**
 * FLOP/s of dense bf16 products with float32 sums and of float32 products without tensor cores, and memory bandwidth in
 * bytes/s. If a card has several variants, the fastest one. Cards that MIG can divide also have their multiprocessors.
 */
const PEAKS: [name: RegExp, flops: Record<Precision, number>, bandwidth: number, multiprocessors?: number][] =
  [
    [/\bB200\b/, { bf16: 2250e12, fp32: 80e12 }, 8000e9, 148],
    [/\bH200\b|\bGH200\b/, { bf16: 989.4e12, fp32: 66.9e12 }, 4800e9, 132],
    [/H100.*(SXM|HBM3)/, { bf16: 989.4e12, fp32: 66.9e12 }, 3352e9, 132],
    [/\bH100\b.*NVL/, { bf16: 835e12, fp32: 60e12 }, 3938e9, 132],
    [/\bH100\b/, { bf16: 756e12, fp32: 51.2e12 }, 2039e9, 114],
    [/\bA100\b/, { bf16: 312e12, fp32: 19.5e12 }, 2039e9, 108],
    [/\bA40\b/, { bf16: 149.7e12, fp32: 37.4e12 }, 696e9],
    [/\bA10G?\b/, { bf16: 125e12, fp32: 31.2e12 }, 600e9],
    [/\bL40S\b/, { bf16: 362e12, fp32: 91.6e12 }, 864e9],
    [/\bL40\b/, { bf16: 181e12, fp32: 90.5e12 }, 864e9],
    [/\bL4\b/, { bf16: 121e12, fp32: 30.3e12 }, 300e9],
    [/RTX 4090/, { bf16: 165.2e12, fp32: 82.6e12 }, 1008e9],
    [/RTX 3090/, { bf16: 71e12, fp32: 35.6e12 }, 936e9],
  ];

/** In the name of a part of a card that MIG has divided: NVIDIA H100 80GB HBM3 MIG 1g.10gb. */
const MIG = / MIG \d+[cg]\./;

/**
 * Peak FLOP/s of a GPU, which is given by the driver's name for it; null if unknown. A MIG instance has its share of the
 * card's, by multiprocessors.
 *
 * @param multiprocessors those of the GPU or instance, by the driver
 */
export function peakFlops(device: string, precision: Precision, multiprocessors: number): number | null {
  const [, flops, , ofCard] = PEAKS.find(([name]) => name.test(device)) ?? [];
  if (flops === undefined) return null;
  if (!MIG.test(device)) return flops[precision];
  return ofCard === undefined ? null : (flops[precision] * multiprocessors) / ofCard;
}

/** Peak bytes per second of a GPU's memory; null if unknown, as for a MIG instance, whose share the driver does not report. */
export function peakBandwidth(device: string): number | null {
  if (MIG.test(device)) return null;
  return PEAKS.find(([name]) => name.test(device))?.[2] ?? null;
}
