/** Starts the cuda backend: finds the libraries, opens the GPU, registers the kernels. */
import { findBackend, getBackend, ready, registerBackend, setBackend } from '@tensorflow/tfjs-core';
import { messageOf } from '../../errors.js';
import type { Precision } from '../precisions.js';
import { CUDA, CudaBackend } from './backend.js';
import { registerCudaKernels } from './driver/call.js';
import { Compiler } from './driver/compiler.js';
import { CublasLt } from './driver/cublas.js';
import { Cudnn } from './driver/cudnn.js';
import { cudaVersion, Driver } from './driver/driver.js';
import { cudaOf, findLibraries, type LibraryName, missingLibraries } from './driver/libraries.js';
import type { ActivationStorage } from './driver/storage.js';
import { CUDA_KERNELS } from './kernels/all.js';

export interface CudaOptions {
  precision: Precision;
  /** `training.deterministic`. */
  deterministic?: boolean;
  /** Waits after every launch, so that an error names its kernel. */
  synchronous?: boolean;
}

/** How activations are stored in each precision of the products. */
const ACTIVATIONS: Record<Precision, ActivationStorage> = { fp32: 'float32', bf16: 'bfloat16' };

/**
 * Makes cuda the active backend.
 *
 * @throws Error if a library or the GPU is missing or too old, with a message for the user
 */
export async function startCuda(options: CudaOptions): Promise<CudaBackend> {
  const backend = (findBackend(CUDA) as CudaBackend | null) ?? open();
  backend.activations = ACTIVATIONS[options.precision];
  backend.deterministic = options.deterministic ?? false;
  backend.synchronous = options.synchronous ?? false;
  await setBackend(CUDA);
  await ready();
  if (getBackend() !== CUDA) throw new Error('the cuda backend did not start');
  return backend;
}

/** One line for each of NVIDIA's libraries: its path, or what to install. */
export function cudaDetails(): string[] {
  return Object.values(findLibraries()).map(({ name, path, install }) =>
    path === null ? `${name}: missing; install ${install}` : `${name}: ${path}`,
  );
}

function open(): CudaBackend {
  let found = findLibraries();
  const missing = missingLibraries(found);
  // Without a driver the other libraries are useless: a machine without a GPU gets one sentence.
  if (found.cuda.path === null) throw new Error(missing[0]);
  if (missing.length > 0) throw new Error(missing.join('; '));
  const opened = <T>(name: LibraryName, load: (path: string) => T): T => {
    const path = found[name].path as string;
    try {
      return load(path);
    } catch (error) {
      throw new Error(`${path}: ${messageOf(error)}`);
    }
  };
  const driver = opened('cuda', (path) => new Driver(path));
  found = librariesFor(driver, found);
  // NVRTC and cuBLASLt before cuDNN, which loads them by name.
  const compiler = opened('nvrtc', (path) => new Compiler(path));
  if (!compiler.architectures().includes(driver.architecture)) {
    throw new Error(
      `${found.nvrtc.path}: NVRTC ${compiler.version} does not support ${driver.deviceName} (compute capability ${driver.architecture / 10}); install a newer CUDA`,
    );
  }
  const cublas = opened('cublasLt', (path) => new CublasLt(path, driver));
  const cudnn = opened('cudnn', (path) => new Cudnn(path));
  cudnn.useStream(driver.stream, driver);
  const backend = new CudaBackend({ driver, compiler, cublas, cudnn });
  registerBackend(CUDA, () => backend, 3);
  registerCudaKernels(CUDA_KERNELS);
  return backend;
}

type Libraries = ReturnType<typeof findLibraries>;

/** Libraries that the driver supports: those found, or older ones on this machine if the found ones need a newer driver. */
function librariesFor({ driverVersion }: Driver, found: Libraries): Libraries {
  const newest = Math.floor(driverVersion / 1000);
  const path = found.cublasLt.path as string;
  if (cudaOf(path) <= newest) return found;
  const older = findLibraries(process.env, undefined, newest);
  if (missingLibraries(older).length === 0) return older;
  throw new Error(
    `${path} is of CUDA ${cudaOf(path)}, but the driver supports up to ${cudaVersion(driverVersion)}: install a newer driver, or pip install nvidia-cublas-cu${newest} nvidia-cuda-nvrtc-cu${newest} nvidia-cudnn-cu${newest}`,
  );
}
