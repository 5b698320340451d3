/**
 * `npm run cuda:libraries` installs NVRTC and cuDNN from PyPI in .cuda/, so that tests can compile the kernels and plan attention
 * without a GPU. Downloads 575 MB, once. If PyPI cannot be reached, nothing is installed and those tests are skipped.
 */
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, renameSync, rmSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** The versions that the tests are written for. */
const WHEELS = ['nvidia-cuda-nvrtc==13.5.37', 'nvidia-cudnn-cu13==9.19.0.56'];
/** The files that the tests need; the others are 1 GB of precompiled kernels. */
const NEEDED = /libnvrtc|libcudnn(_graph|_engines_runtime_compiled)?\.so/;

/** Extracts the files of a wheel, a zip archive, that match a pattern. */
const UNPACK = `
import re, sys, zipfile
wheel, folder, pattern = sys.argv[1:]
with zipfile.ZipFile(wheel) as archive:
    archive.extractall(folder, [name for name in archive.namelist() if re.search(pattern, name)])
`;

const root = join(dirname(fileURLToPath(import.meta.url)), '..');
const target = join(root, '.cuda');

if (existsSync(target)) console.log('.cuda exists already');
else install();

function install() {
  const unfinished = `${target}.${process.pid}`;
  const wheels = join(unfinished, 'wheels');
  mkdirSync(wheels, { recursive: true });
  try {
    python('-m', 'pip', 'download', '--quiet', '--no-deps', '--only-binary=:all:', '-d', wheels, ...WHEELS);
    for (const wheel of readdirSync(wheels)) {
      python('-c', UNPACK, join(wheels, wheel), unfinished, NEEDED.source);
    }
    rmSync(wheels, { recursive: true });
    renameSync(unfinished, target);
    console.log(`installed ${WHEELS.join(' and ')} in .cuda`);
  } catch (error) {
    rmSync(unfinished, { recursive: true, force: true });
    console.log(
      `NVRTC and cuDNN are not installed, so tests that compile kernels are skipped: ${String(error.message).split('\n').at(-1)}`,
    );
  }
}

function python(...args) {
  execFileSync('python3', args, { stdio: ['ignore', 'inherit', 'pipe'] });
}
