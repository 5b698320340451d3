/** The machine: cores, GPUs, free disk space. */
import { describe, expect, it } from 'vitest';
import { freeDiskBytes, gpusInUse, parseGpus, physicalCores, visibleGpus } from '../src/machine.js';

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
    ['fewer allowed than present', [processor(0, 0), processor(0, 1)], 1, 1],
    ['a file without core ids', ['processor : 0', 'processor : 1'], 2, 2],
  ])('%s', (_, processors, logical, expected) => {
    expect(physicalCores(processors.join('\n\n'), logical)).toBe(expected);
  });

  it('are the logical ones if there is no file', () => expect(physicalCores(null, 3)).toBe(3));
});

it('GPUs are parsed from the output of nvidia-smi', () => {
  expect(
    parseGpus(
      'GPU-a1, NVIDIA H200, 580.159.04, 143771, 9.0\nGPU-b2, NVIDIA A100-SXM4-80GB, 535.1, 81920, 8.0\n',
    ),
  ).toEqual([
    {
      uuid: 'GPU-a1',
      name: 'NVIDIA H200',
      driver: '580.159.04',
      memoryBytes: 143771 * 2 ** 20,
      computeCapability: '9.0',
    },
    {
      uuid: 'GPU-b2',
      name: 'NVIDIA A100-SXM4-80GB',
      driver: '535.1',
      memoryBytes: 80 * 2 ** 30,
      computeCapability: '8.0',
    },
  ]);
  expect(parseGpus('No devices were found\n')).toEqual([]);
});

it.each([
  ['all usable ones by default', undefined, ['GPU-a', 'GPU-c']],
  ['those of CUDA_VISIBLE_DEVICES, by number or name', '3, GPU-x,MIG-y', ['3', 'GPU-x', 'MIG-y']],
  ['up to the first invalid entry, as in CUDA', '0,-1,1', ['0']],
  ['none if it is empty', '', []],
  ['none if the scheduler assigned none', 'NoDevFiles', []],
])('GPUs to train on: %s', (_, visible, expected) => {
  const list = () =>
    parseGpus('GPU-a, A100, 1, 81920, 8.0\nGPU-b, GT 710, 1, 2048, 3.5\nGPU-c, H100, 1, 81920, 9.0\n');
  expect(visibleGpus(visible, list)).toEqual(expected);
});

it('free disk space of a missing folder is that of its nearest existing parent', () => {
  expect(freeDiskBytes('no/such/folder')).toBeGreaterThan(0);
});

describe('GPUs in use', () => {
  const answers =
    (gpus: string[][], processes: string[][] = []) =>
    (what: string): string[][] =>
      what.startsWith('gpu=') ? gpus : processes;
  const GPUS = [
    ['GPU-a', '40000', 'H100'],
    ['GPU-b', '700', 'H100'],
    ['GPU-c', '3', 'H100'],
  ];
  const inUse = (...args: Parameters<typeof gpusInUse>) => [...gpusInUse(...args).keys()];

  it('have much memory in use, or a process with some', () => {
    expect(inUse(['GPU-a', 'GPU-b', 'GPU-c'], answers(GPUS))).toEqual(['GPU-a']);
    expect(inUse(['GPU-a', 'GPU-b', 'GPU-c'], answers(GPUS, [['GPU-b', '690']]))).toEqual(['GPU-a', 'GPU-b']);
  });

  it('do not include those with an MPS server alone, or whose use is unknown', () => {
    expect(inUse(['GPU-b'], answers(GPUS, [['GPU-b', '30']]))).toEqual([]);
    expect(inUse(['GPU-d'], answers([['GPU-d', '[N/A]', 'H100']], [['GPU-d', '[N/A]']]))).toEqual([]);
    expect(inUse(['MIG-x'], answers(GPUS))).toEqual([]);
  });

  it('may be named by index, if CUDA and nvidia-smi number them alike', () => {
    const mixed = [['GPU-a', '40000', 'A100'], ...GPUS.slice(1)];
    expect(inUse(['0', '1'], answers(GPUS))).toEqual(['0']);
    expect(inUse(['0', '1'], answers(mixed), undefined)).toEqual([]);
    expect(inUse(['0', '1'], answers(mixed), 'PCI_BUS_ID')).toEqual(['0']);
  });
});
