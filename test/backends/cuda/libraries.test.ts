/** The folders in which NVIDIA's libraries are searched, and their order. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, it } from 'vitest';
import { findLibraries, missingLibraries } from '../../../src/backends/cuda/driver/libraries.js';

const folder = mkdtempSync(join(tmpdir(), 'mod-libraries-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** Creates empty files at these paths. */
function place(...files: string[]): void {
  for (const file of files) {
    mkdirSync(join(folder, file, '..'), { recursive: true });
    writeFileSync(join(folder, file), '');
  }
}

place(
  'home/lib64/libcublasLt.so.12',
  'home/lib64/libnvrtc.so.12',
  'path/libcudnn.so.9',
  'site13/nvidia/cu13/lib/libcublasLt.so.13',
  'site13/nvidia/cu13/lib/libnvrtc.so.13',
  'site13/nvidia/cudnn/lib/libcudnn.so.9',
  'site12/nvidia/cublas/lib/libcublasLt.so.12',
  'site12/nvidia/cuda_nvrtc/lib/libnvrtc.so.12',
  'site12/nvidia/cudnn/lib/libcudnn.so.9',
);
const at = (file: string) => join(folder, file);

it.each([
  {
    name: 'CUDA_HOME before the wheels, and one CUDA version for both of its libraries',
    environment: { CUDA_HOME: at('home'), LD_LIBRARY_PATH: at('path') },
    sites: [at('site13')],
    found: ['home/lib64/libcublasLt.so.12', 'home/lib64/libnvrtc.so.12', 'path/libcudnn.so.9'],
  },
  {
    name: "the common folder of CUDA 13's wheels",
    environment: {},
    sites: [at('site13')],
    found: [
      'site13/nvidia/cu13/lib/libcublasLt.so.13',
      'site13/nvidia/cu13/lib/libnvrtc.so.13',
      'site13/nvidia/cudnn/lib/libcudnn.so.9',
    ],
  },
  {
    name: "the separate folders of CUDA 12's wheels",
    environment: {},
    sites: [at('site12')],
    found: [
      'site12/nvidia/cublas/lib/libcublasLt.so.12',
      'site12/nvidia/cuda_nvrtc/lib/libnvrtc.so.12',
      'site12/nvidia/cudnn/lib/libcudnn.so.9',
    ],
  },
  {
    name: 'wheels of an older CUDA, if the driver does not support a later one',
    environment: {},
    sites: [at('site13'), at('site12')],
    newest: 12,
    found: [
      'site12/nvidia/cublas/lib/libcublasLt.so.12',
      'site12/nvidia/cuda_nvrtc/lib/libnvrtc.so.12',
      'site13/nvidia/cudnn/lib/libcudnn.so.9',
    ],
  },
])('finds them in $name', ({ environment, sites, newest, found }) => {
  const libraries = findLibraries(environment, () => sites, newest);
  expect([libraries.cublasLt.path, libraries.nvrtc.path, libraries.cudnn.path]).toEqual(found.map(at));
});

it('lists what to install for each missing library', () => {
  const found = findLibraries({}, () => []);
  const without = { ...found, cudnn: { ...found.cudnn, path: null } };
  expect(missingLibraries(without).join()).toMatch(
    /libcudnn\.so\.9 was not found; install cuDNN 9, or: pip install/,
  );
});
