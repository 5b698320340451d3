/** What produced a result: the program's commit and the versions of the program and its packages. */
import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync, realpathSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** The installed package: the folder above src/ or dist/. */
const packageRoot = join(dirname(fileURLToPath(import.meta.url)), '..', '..');

/**
 * The commit of the package: that of its own git repository, not of a repository that has it in node_modules; without one,
 * the `gitHead` that the build wrote to dist/commit.json, or that a registry added to package.json; null if unknown.
 */
export function gitCommit(root: string = packageRoot): string | null {
  try {
    const [top, commit] = git(root, 'rev-parse', '--show-toplevel', 'HEAD').split('\n') as [string, string];
    if (realpathSync(top) === realpathSync(root)) return commit;
  } catch {
    // no git, no repository, or no commit yet
  }
  return gitHeadIn(join(root, 'dist', 'commit.json')) ?? gitHeadIn(join(root, 'package.json'));
}

function gitHeadIn(path: string): string | null {
  try {
    return (JSON.parse(readFileSync(path, 'utf8')) as { gitHead?: string }).gitHead ?? null;
  } catch {
    return null;
  }
}

/** The version of this program. */
export function programVersion(): string {
  return readVersion(join(packageRoot, 'package.json'));
}

/** Versions of the program, of Node and of some packages; null for a package that is not installed. */
export function versions(...packages: string[]): Record<string, string | null> {
  return {
    mod: programVersion(),
    node: process.versions.node,
    platform: `${process.platform}-${process.arch}`,
    ...Object.fromEntries(packages.map((name) => [name, packageVersion(name)])),
  };
}

/** The version from the package's folder: its `exports` may hide package.json from require. */
function packageVersion(name: string): string | null {
  const folders = createRequire(import.meta.url).resolve.paths(name) ?? [];
  const manifest = folders
    .map((folder) => join(folder, name, 'package.json'))
    .find((path) => existsSync(path));
  return manifest === undefined ? null : readVersion(manifest);
}

function readVersion(manifest: string): string {
  return (JSON.parse(readFileSync(manifest, 'utf8')) as { version: string }).version;
}

function git(folder: string, ...args: string[]): string {
  // In a git hook these variables would point git at the hook's repository.
  const { GIT_DIR: _dir, GIT_WORK_TREE: _tree, GIT_INDEX_FILE: _index, ...env } = process.env;
  return execFileSync('git', ['-C', folder, ...args], {
    env,
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'ignore'],
    timeout: 10_000,
  });
}
