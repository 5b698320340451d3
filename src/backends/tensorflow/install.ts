/**
 * Installs TensorFlow for @tensorflow/tfjs-node-gpu: the shared libraries of the PyPI wheel go into the package's `deps`, with a
 * binding that is compiled against them and contains the project's own operations (native/). A symbolic link selects the
 * binding; it is replaced last, by one rename, so that an interrupted install leaves the previous state.
 */
import { spawnSync } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join, relative } from 'node:path';
import { isAlive } from '../../files/atomic.js';
import {
  bindingPath,
  installedBinding,
  installName,
  OPERATIONS_FOLDER,
  PACKAGE,
  PROJECT_FOLDER,
  packageFolder,
} from './package.js';
import { gatherFacts, type InstallFacts, missingFor } from './prerequisites.js';
import { CPU_DISTRIBUTION, type Distribution, GPU_DISTRIBUTION, requirements } from './wheels.js';

const BINDING = 'tfjs_binding.node';
const STAGING = '.staging-';
/** The files that are unpacked from a wheel: libraries, and the headers that the binding and the operations include. */
const UNPACKED = [
  'tensorflow/libtensorflow_cc.so.2',
  'tensorflow/libtensorflow_framework.so.2',
  'tensorflow/include/tensorflow/c/',
  'tensorflow/include/tensorflow/core/platform/ctstring',
  'tensorflow/include/tensorflow/core/common_runtime/next_pluggable_device/c/',
  'tensorflow/include/tsl/platform/ctstring',
  'tensorflow/include/tsl/platform/platform.h',
  'tensorflow/include/xla/tsl/c/',
  'nvidia/',
];
const UNZIP = `
import sys, zipfile
wheel, target, *wanted = sys.argv[1:]
with zipfile.ZipFile(wheel) as archive:
    archive.extractall(target, [name for name in archive.namelist() if name.startswith(tuple(wanted))])
`;

/**
 * Installs TensorFlow unless it is installed already.
 *
 * @param log receives a line for each step
 * @throws Error that lists the missing prerequisites or names the step that failed
 */
export function installTensorflow(gpu: boolean, log: (line: string) => void): void {
  const distribution = gpu ? GPU_DISTRIBUTION : CPU_DISTRIBUTION;
  const before = packageFolder();
  if (before !== null && isInstalled(before, distribution)) {
    log(`${distribution.folder} is already installed and works`);
    return;
  }
  const facts = gatherFacts(before ?? PROJECT_FOLDER);
  const missing = missingFor(facts, distribution);
  if (missing.length > 0)
    throw new Error(`nothing was downloaded, because the install needs:\n- ${missing.join('\n- ')}`);
  const folder = before ?? fetchPackage(log);
  const deps = join(folder, 'deps');
  mkdirSync(deps, { recursive: true });
  removeLeftovers(deps);
  const staging = join(deps, `${STAGING}${process.pid}`);
  try {
    stage(staging, folder, distribution, facts, log);
    activate(staging, folder, distribution);
  } finally {
    rmSync(staging, { recursive: true, force: true });
  }
  log(`done: ${PACKAGE} uses ${distribution.folder}`);
}

function isInstalled(folder: string, distribution: Distribution): boolean {
  const binding = installedBinding(folder);
  return binding === join(folder, 'deps', installName(distribution.folder), BINDING) && loads(binding);
}

/** Whether Node can load a binding and its libraries, tried in a separate process. */
function loads(binding: string): boolean {
  const { status } = spawnSync(process.execPath, ['-e', `require(${JSON.stringify(binding)})`], {
    stdio: 'ignore',
  });
  return status === 0;
}

/**
 * Installs the npm package without its install script, which deletes `deps` and downloads: npm removes an optional package
 * whose script fails. Returns its folder.
 */
function fetchPackage(log: (line: string) => void): string {
  log(`npm: installing ${PACKAGE} at the version of package-lock.json, without its install script`);
  const omitted = hasDevelopmentPackages() ? [] : ['--omit=dev'];
  run('npm', ['install', '--no-save', '--ignore-scripts', '--include=optional', ...omitted], PROJECT_FOLDER);
  const folder = packageFolder();
  if (folder === null) throw new Error(`npm did not install ${PACKAGE}`);
  return folder;
}

/** Whether development packages are installed. npm install changes all of node_modules; omitted packages must stay omitted. */
function hasDevelopmentPackages(): boolean {
  const state = join(PROJECT_FOLDER, 'node_modules', '.package-lock.json');
  return existsSync(state) && readFileSync(state, 'utf8').includes('"dev": true');
}

/** Puts libraries, headers and the tested binding into a folder that nothing uses yet. */
function stage(
  staging: string,
  folder: string,
  distribution: Distribution,
  { python, compiler }: InstallFacts,
  log: (line: string) => void,
): void {
  const wheels = join(staging, 'wheels');
  mkdirSync(wheels, { recursive: true });
  const list = join(wheels, 'requirements.txt');
  writeFileSync(list, requirements(distribution));
  log(`pip: downloading ${distribution.wheels.map(({ name, version }) => `${name} ${version}`).join(', ')}`);
  const target = ['--python-version', '3.12', '--implementation', 'cp', ...platforms()];
  const checked = ['--no-deps', '--only-binary=:all:', '--require-hashes'];
  run(python as string, ['-m', 'pip', 'download', ...checked, ...target, '-d', wheels, '-r', list]);
  for (const wheel of readdirSync(wheels).filter((name) => name.endsWith('.whl'))) {
    log(`python: unpacking ${wheel}`);
    run(python as string, ['-c', UNZIP, join(wheels, wheel), staging, ...UNPACKED]);
  }
  rmSync(wheels, { recursive: true });
  log(`${compiler}: compiling the binding and the project's operations`);
  compile(compiler as string, staging, folder);
  log('node: loading the binding');
  if (!loads(join(staging, BINDING)))
    throw new Error('the binding was compiled but cannot be loaded; the previous installation is unchanged');
}

/** pip's options for the platforms of the wheels, each of which must be listed. */
function platforms(): string[] {
  const names = ['manylinux_2_27', 'manylinux_2_25', 'manylinux2014', 'manylinux2010', 'manylinux1'];
  return names.flatMap((name) => ['--platform', `${name}_x86_64`]);
}

function compile(compiler: string, staging: string, folder: string): void {
  const libraries = join(staging, 'tensorflow');
  const sources = [
    ...['tfjs_backend.cc', 'tfjs_binding.cc'].map((name) => join(folder, 'binding', name)),
    ...['attention.cc', 'elementwise.cc'].map((name) => join(OPERATIONS_FOLDER, name)),
  ];
  const { include_dir: nodeApi } = createRequire(import.meta.url)('node-api-headers') as {
    include_dir: string;
  };
  run(compiler, [
    ...['-std=c++17', '-O3', '-fPIC', '-shared', '-DNAPI_VERSION=8', '-Wno-psabi'],
    // These let loops with comparisons and square roots be vectorized; no result changes.
    ...['-fno-math-errno', '-fno-trapping-math'],
    ...[`-I${nodeApi}`, `-I${join(libraries, 'include')}`],
    ...sources,
    ...['-o', join(staging, BINDING), '-Wl,-rpath,$ORIGIN/tensorflow'],
    ...['libtensorflow_cc.so.2', 'libtensorflow_framework.so.2'].map((name) => join(libraries, name)),
  ]);
}

/** Gives the staged folder its final name, then replaces the link that the package loads by one rename. */
export function activate(staging: string, folder: string, distribution: Distribution): void {
  const deps = join(folder, 'deps');
  const name = installName(distribution.folder);
  const place = join(deps, name);
  const binding = bindingPath(folder);
  // A folder of this name is not in use: its binding did not load.
  rmSync(place, { recursive: true, force: true });
  renameSync(staging, place);
  mkdirSync(dirname(binding), { recursive: true });
  const link = `${binding}.${process.pid}`;
  rmSync(link, { force: true });
  symlinkSync(relative(dirname(binding), join(place, BINDING)), link);
  renameSync(link, binding);
  for (const other of readdirSync(deps)) {
    if (other !== name && !other.startsWith(STAGING)) rmSync(join(deps, other), { recursive: true });
  }
}

/** Removes the folders of interrupted installs, but not that of an install which is running. */
function removeLeftovers(deps: string): void {
  for (const entry of readdirSync(deps)) {
    if (entry.startsWith(STAGING) && !isAlive(Number(entry.slice(STAGING.length))))
      rmSync(join(deps, entry), { recursive: true });
  }
}

function run(command: string, args: string[], cwd?: string): void {
  const { status, signal, error } = spawnSync(command, args, { stdio: 'inherit', cwd });
  if (status === 0) return;
  const how = error?.message ?? (signal === null ? `exit code ${status}` : `signal ${signal}`);
  throw new Error(
    `${command} ${args.slice(0, 3).join(' ')} ... failed (${how}); the previous installation is unchanged`,
  );
}
