/**
 * npm run cuda:libraries: NVRTC and cuDNN from PyPI into .cuda/, so that the project's kernels are compiled and
 * attention is planned in tests on a machine without a GPU. 575 MB to fetch, once; where PyPI cannot be reached it says
 * so and leaves nothing, and those tests say that they are skipped.
 */
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, renameSync, rmSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** The versions that the tests were written against. */
const WHEELS = ['nvidia-cuda-nvrtc==13.5.37', 'nvidia-cudnn-cu13==9.19.0.56'];
/** What planning needs of them: the rest is a gigabyte of kernels for other purposes. */
const NEEDED = /libnvrtc|libcudnn(_graph|_engines_runtime_compiled)?\.so/;

/** A wheel is a zip archive; the members that match a pattern, below a folder. */
const UNPACK = `
import re, sys, zipfile
wheel, folder, pattern = sys.argv[1:]
with zipfile.ZipFile(wheel) as archive:
    archive.extractall(folder, [name for name in archive.namelist() if re.search(pattern, name)])
`;

const root = join(dirname(fileURLToPath(import.meta.url)), '..');
const target = join(root, '.cuda');

if (existsSync(target)) console.log('.cuda is there already');
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
    console.log(`${WHEELS.join(' and ')} are in .cuda`);
  } catch (error) {
    rmSync(unfinished, { recursive: true, force: true });
    console.log(
      `not installed, the tests that compile kernels are skipped: ${String(error.message).split('\n').at(-1)}`,
    );
  }
}

function python(...args) {
  execFileSync('python3', args, { stdio: ['ignore', 'inherit', 'pipe'] });
}
