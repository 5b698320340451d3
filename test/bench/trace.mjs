/**
 * The GPU's kernels in a recorded step: runs a command with trace.cpp loaded and returns its output, or null without a C++
 * compiler or without CUPTI in CUDA's folder or a Python package.
 */
import { execFileSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const SOURCE = fileURLToPath(new URL('./trace.cpp', import.meta.url));
const folder = mkdtempSync(join(tmpdir(), 'mod-trace-'));

/** Folders with include/ and lib/ or lib64/. */
function cudaFolders() {
  const home = process.env.CUDA_HOME ?? '/usr/local/cuda';
  const printed = execFileSync('python3', ['-c', 'import sys; print("\\n".join(sys.path))'], {
    encoding: 'utf8',
  });
  const sites = printed.split('\n').filter((path) => path !== '');
  const wheels = sites.flatMap((site) =>
    ['cu13', 'cuda_cupti', 'cuda_runtime'].map((name) => join(site, 'nvidia', name)),
  );
  return [home, join(home, 'extras/CUPTI'), ...wheels].filter((path) => existsSync(path));
}

/** The built library; null if it cannot be built, with the reason on stderr. */
function build() {
  try {
    const roots = cudaFolders();
    const libraries = roots.flatMap((root) => [join(root, 'lib64'), join(root, 'lib')]);
    const found = libraries
      .flatMap((at) => ['libcupti.so.13', 'libcupti.so.12', 'libcupti.so'].map((name) => join(at, name)))
      .find((path) => existsSync(path));
    if (found === undefined) throw new Error(`libcupti.so not found in ${libraries.join(', ')}`);
    const library = join(folder, 'trace.so');
    const includes = roots.map((root) => `-I${join(root, 'include')}`);
    const flags = ['-O2', '-std=c++17', '-shared', '-fPIC', '-w', ...includes];
    execFileSync('g++', [...flags, SOURCE, '-o', library, found, `-Wl,-rpath,${join(found, '..')}`], {
      stdio: ['ignore', 'inherit', 'inherit'],
    });
    return library;
  } catch (error) {
    console.error(`cannot trace kernels: ${error.message}`);
    return null;
  }
}

let library;

/** Runs a command to its end, discards its output and returns its trace. */
export function traced(command, args) {
  library ??= build();
  if (library === null) return null;
  const output = join(folder, 'trace.json');
  execFileSync(command, args, {
    stdio: ['ignore', 'ignore', 'inherit'],
    env: { ...process.env, CUDA_INJECTION64_PATH: library, MOD_TRACE: output },
  });
  return JSON.parse(readFileSync(output, 'utf8'));
}

/** The name of a templated kernel without the start of its mangled prefix, at most 90 characters. */
const shortName = (name) => name.replace(/^_Z\w*?\d+(?=\w)/, '').slice(0, 90);

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const [command, ...args] = process.argv.slice(2);
  const trace = traced(command, args);
  if (trace === null) process.exit(1);
  const { replays, period_ms, busy_ms, kernels } = trace;
  console.log(
    `${replays} replays: ${busy_ms.toFixed(3)} ms busy, ${period_ms.toFixed(3)} ms between starts\n`,
  );
  console.log('     ms   calls   us each  kernel');
  for (const { name, calls, ms } of kernels.slice(0, 45)) {
    const cells = [ms.toFixed(3), calls.toFixed(1), ((1000 * ms) / calls).toFixed(1)];
    console.log(`${cells.map((cell) => cell.padStart(8)).join(' ')}  ${shortName(name)}`);
  }
}
