/** What the machine is: cores, GPUs, room on the disk. */
import { describe, expect, it } from 'vitest';
import { freeDiskBytes, parseGpus, physicalCores } from '../src/machine.js';

const processor = (socket: number, core: number) =>
  `processor\t: 0\nphysical id\t: ${socket}\ncore id\t\t: ${core}`;

describe('physical cores', () => {
  it.each([
    [
      'two threads each of two cores',
      [processor(0, 0), processor(0, 1), processor(0, 0), processor(0, 1)],
      4,
      2,
    ],
    ['two sockets', [processor(0, 0), processor(1, 0)], 2, 2],
    ['fewer allowed than there are', [processor(0, 0), processor(0, 1)], 1, 1],
    ['a file that does not tell', ['processor : 0', 'processor : 1'], 2, 2],
  ])('%s', (_, processors, logical, expected) => {
    expect(physicalCores(processors.join('\n\n'), logical)).toBe(expected);
  });

  it('are the logical ones where there is no file', () => expect(physicalCores(null, 3)).toBe(3));
});

it('GPUs are read from what nvidia-smi prints', () => {
  expect(
    parseGpus('NVIDIA H200, 580.159.04, 143771, 9.0\nNVIDIA A100-SXM4-80GB, 535.1, 81920, 8.0\n'),
  ).toEqual([
    { name: 'NVIDIA H200', driver: '580.159.04', memoryBytes: 143771 * 2 ** 20, computeCapability: '9.0' },
    { name: 'NVIDIA A100-SXM4-80GB', driver: '535.1', memoryBytes: 80 * 2 ** 30, computeCapability: '8.0' },
  ]);
  expect(parseGpus('No devices were found\n')).toEqual([]);
});

it('free disk is that of the folder above one that is not there yet', () => {
  expect(freeDiskBytes('no/such/folder')).toBeGreaterThan(0);
});
