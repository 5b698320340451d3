/** Peak FLOP/s by the driver's name of a GPU. */
import { expect, it } from 'vitest';
import { peakBandwidth, peakFlops } from '../../../src/backends/cuda/driver/peak.js';

it.each([
  ['NVIDIA H100 80GB HBM3', 989.4e12],
  ['NVIDIA H200', 989.4e12],
  ['NVIDIA H100 PCIe', 756e12],
  ['NVIDIA A100-SXM4-80GB', 312e12],
  ['NVIDIA L40S', 362e12],
  ['NVIDIA L4', 121e12],
  ['NVIDIA A10G', 125e12],
  ['NVIDIA GeForce RTX 4090', 165.2e12],
  ['NVIDIA T1000', null],
])('%s', (device, expected) => {
  expect(peakFlops(device, 'bf16', 100)).toBe(expected);
});

it('of a MIG instance are its share of the card', () => {
  const name = 'NVIDIA A100-SXM4-40GB MIG 3g.20gb';
  expect(peakFlops(name, 'bf16', 42)).toBeCloseTo((42 / 108) * 312e12);
  expect(peakBandwidth(name)).toBeNull();
  expect(peakBandwidth('NVIDIA A100-SXM4-40GB')).toBe(2039e9);
});
