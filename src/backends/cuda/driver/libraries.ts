/**
 * Finds NVIDIA's libraries: in CUDA_HOME and LD_LIBRARY_PATH, /usr/local/cuda, pip's nvidia-* wheels and the folders of the
 * loader. It loads none of them, so that `mod doctor` can list what is installed and what is missing.
 */
import { execFileSync } from 'node:child_process';
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';

export type LibraryName = 'cuda' | 'cublasLt' | 'cudnn' | 'nvrtc';

export interface FoundLibrary {
  name: LibraryName;
  /** An absolute path; a file name if the loader resolves it; null if missing. */
  path: string | null;
  /** What to install if it is missing. */
  install: string;
}

/** File names, newest first: CUDA 13, then 12; cuDNN 9 supports both. */
const FILES: Record<LibraryName, string[]> = {
  cuda: ['libcuda.so.1'],
  cublasLt: ['libcublasLt.so.13', 'libcublasLt.so.12'],
  cudnn: ['libcudnn.so.9'],
  nvrtc: ['libnvrtc.so.13', 'libnvrtc.so.12'],
};

const INSTALL: Record<LibraryName, string> = {
  cuda: "NVIDIA's driver, version 525 or later",
  cublasLt: 'CUDA 12 or 13, or: pip install nvidia-cublas (nvidia-cublas-cu12 for CUDA 12)',
  cudnn: 'cuDNN 9, or: pip install nvidia-cudnn-cu13 (nvidia-cudnn-cu12 for CUDA 12)',
  nvrtc: 'CUDA 12 or 13, or: pip install nvidia-cuda-nvrtc (nvidia-cuda-nvrtc-cu12 for CUDA 12)',
};

/** Folders of the wheels' libraries in site-packages: one for all of CUDA 13, one per library for CUDA 12. */
const WHEEL_FOLDERS = ['cu13', 'cu12', 'cublas', 'cudnn', 'cuda_nvrtc', 'cuda_runtime'].map((name) =>
  join('nvidia', name, 'lib'),
);

/**
 * Finds each library.
 *
 * @param environment environment variables; injected in tests
 * @param sitePackages returns Python's search path; injected in tests
 * @param newest the latest CUDA version that the driver supports, such as 12
 */
export function findLibraries(
  environment: NodeJS.ProcessEnv = process.env,
  sitePackages: () => string[] = pythonSitePackages,
  newest = Number.POSITIVE_INFINITY,
): Record<LibraryName, FoundLibrary> {
  const folders = searchFolders(environment);
  let wheels: string[] | null = null;
  /** Runs Python, which takes 0.1 s, once and only if needed. */
  const inWheels = (files: string[]) => {
    wheels ??= wheelFolders(sitePackages());
    return fileIn(wheels, files);
  };
  let major = '';
  const find = (name: LibraryName): FoundLibrary => {
    // cuBLASLt and NVRTC must be of the same CUDA version: that of the first one found.
    const files = FILES[name].filter(
      (file) => FILES[name].length === 1 || (major === '' ? cudaOf(file) <= newest : file.endsWith(major)),
    );
    const path =
      fileIn(folders, files) ??
      (name === 'cuda' ? undefined : inWheels(files)) ??
      firstOf(files, loaderPath) ??
      null;
    if (FILES[name].length > 1 && path !== null) major = path.slice(path.lastIndexOf('.'));
    return { name, path, install: INSTALL[name] };
  };
  return { cuda: find('cuda'), cublasLt: find('cublasLt'), nvrtc: find('nvrtc'), cudnn: find('cudnn') };
}

/** The CUDA version in the file name of cuBLASLt or NVRTC: 13 for libnvrtc.so.13. */
export function cudaOf(path: string): number {
  return Number(path.slice(path.lastIndexOf('.') + 1));
}

/** One sentence for each missing library; empty if none is missing. */
export function missingLibraries(found: Record<LibraryName, FoundLibrary>): string[] {
  return Object.values(found)
    .filter(({ path }) => path === null)
    .map(({ name, install }) => `${FILES[name][0]} was not found; install ${install}`);
}

/** The path of NVRTC's builtins, which libnvrtc loads by name: they must be loaded first if the loader cannot find them. */
export function nvrtcBuiltins(nvrtcPath: string): string | null {
  const folder = nvrtcPath.includes('/') ? nvrtcPath.slice(0, nvrtcPath.lastIndexOf('/')) : null;
  if (folder === null) return null;
  const file = readdirSync(folder).find((name) => /^libnvrtc-builtins\.so\.\d+\.\d+$/.test(name));
  return file === undefined ? null : join(folder, file);
}

function searchFolders(environment: NodeJS.ProcessEnv): string[] {
  const homes = [environment.CUDA_HOME, environment.CUDA_PATH].filter(isText);
  const ofHome = (home: string) => [
    join(home, 'lib64'),
    join(home, 'lib'),
    join(home, 'targets/x86_64-linux/lib'),
  ];
  return [
    ...homes.flatMap(ofHome),
    ...(environment.LD_LIBRARY_PATH ?? '').split(':').filter(isText),
    ...ofHome('/usr/local/cuda'),
  ];
}

/** The first existing file, by folder, then by name. */
function fileIn(folders: string[], files: string[]): string | undefined {
  return folders
    .flatMap((folder) => files.map((file) => join(folder, file)))
    .find((path) => existsSync(path));
}

function wheelFolders(sitePackages: string[]): string[] {
  return sitePackages.flatMap((site) => WHEEL_FOLDERS.map((folder) => join(site, folder)));
}

/** The module search path of Python; empty if Python is missing. */
function pythonSitePackages(): string[] {
  for (const python of ['python3', 'python']) {
    try {
      const printed = execFileSync(python, ['-c', 'import sys; print("\\n".join(sys.path))'], {
        encoding: 'utf8',
        stdio: ['ignore', 'pipe', 'ignore'],
        timeout: 20_000,
      });
      return printed.split('\n').filter(isText);
    } catch {
      // this Python is missing or does not run
    }
  }
  return [];
}

function firstOf<T>(files: readonly string[], find: (file: string) => T | null): T | null {
  for (const file of files) {
    const found = find(file);
    if (found !== null) return found;
  }
  return null;
}

/** The path of a file in a standard folder, or its name if the loader's cache lists it; null if neither. */
function loaderPath(file: string): string | null {
  const usual = [
    '/usr/lib/x86_64-linux-gnu',
    '/usr/lib64',
    '/usr/lib',
    '/usr/lib/wsl/lib',
    '/usr/local/nvidia/lib64',
  ];
  const path = fileIn(usual, [file]);
  if (path !== undefined) return path;
  for (const ldconfig of ['/sbin/ldconfig', 'ldconfig']) {
    try {
      const printed = execFileSync(ldconfig, ['-p'], {
        encoding: 'utf8',
        stdio: ['ignore', 'pipe', 'ignore'],
      });
      return printed.includes(`${file} `) ? file : null;
    } catch {
      // this ldconfig is missing
    }
  }
  return null;
}

function isText(value: string | undefined): value is string {
  return value !== undefined && value !== '';
}
