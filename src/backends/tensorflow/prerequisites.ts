/** What an install of TensorFlow needs of a machine, checked before anything is downloaded. */
import { spawnSync } from 'node:child_process';
import { existsSync, statfsSync } from 'node:fs';
import { dirname } from 'node:path';
import type { Distribution } from './wheels.js';

export interface InstallFacts {
  /** Operating system and processor as Node names them: 'linux-x64'. */
  platform: string;
  /** Version of the C library; null where it is not glibc. */
  glibc: string | null;
  /** Commands that answered; null where none did. */
  compiler: string | null;
  python: string | null;
  /** Version of that Python's pip; null where it has none. */
  pip: string | null;
  /** Space for the install, in bytes. */
  freeBytes: number;
}

/** What the wheels are made for: manylinux_2_27. */
const GLIBC = '2.27';
/** The first that knows wheels for a given glibc. */
const PIP = '20.3';

/** Asks this machine; `folder` is where the install will lie. */
export function gatherFacts(folder: string): InstallFacts {
  const python = firstThatRuns(['python3', 'python']);
  const { glibcVersionRuntime } = (process.report.getReport() as { header: { glibcVersionRuntime?: string } })
    .header;
  return {
    platform: `${process.platform}-${process.arch}`,
    glibc: glibcVersionRuntime ?? null,
    compiler: firstThatRuns([process.env.CXX ?? '', 'g++', 'clang++', 'c++']),
    python,
    pip: python === null ? null : pipVersion(python),
    freeBytes: freeBytesAt(folder),
  };
}

/** One line for each thing that is missing, with what to do about it; empty where the install can start. */
export function missingFor(facts: InstallFacts, { diskBytes }: Distribution): string[] {
  if (facts.platform !== 'linux-x64')
    return [`the wheels are for linux-x64, this is ${facts.platform}: use --backend wasm here`];
  const missing: string[] = [];
  if (facts.glibc === null || !isAtLeast(facts.glibc, GLIBC))
    missing.push(`glibc ${GLIBC} or later; here is ${facts.glibc ?? 'another C library'}`);
  if (facts.compiler === null)
    missing.push('a C++17 compiler: install g++ (Debian: apt install g++) or clang++, or set CXX');
  if (facts.python === null)
    missing.push('python3, whose pip downloads the wheels (apt install python3-pip)');
  else if (facts.pip === null) missing.push(`pip for ${facts.python} (apt install python3-pip)`);
  else if (!isAtLeast(facts.pip, PIP))
    missing.push(
      `pip ${PIP} or later; here is ${facts.pip} (${facts.python} -m pip install --user --upgrade pip)`,
    );
  if (facts.freeBytes < diskBytes)
    missing.push(`${gigabytes(diskBytes)} of free disk; here are ${gigabytes(facts.freeBytes)}`);
  return missing;
}

const gigabytes = (bytes: number) => `${(bytes / 1e9).toFixed(1)} GB`;

function isAtLeast(version: string, least: string): boolean {
  const [a, b] = [version, least].map((text) => text.split('.').map(Number)) as [number[], number[]];
  const [major, minor] = [(a[0] ?? 0) - (b[0] ?? 0), (a[1] ?? 0) - (b[1] ?? 0)];
  return major > 0 || (major === 0 && minor >= 0);
}

function firstThatRuns(commands: string[]): string | null {
  const runs = (command: string) =>
    command !== '' && spawnSync(command, ['--version'], { stdio: 'ignore' }).status === 0;
  return commands.find(runs) ?? null;
}

function pipVersion(python: string): string | null {
  const { status, stdout } = spawnSync(python, ['-m', 'pip', '--version'], { encoding: 'utf8' });
  return status === 0 ? (/^pip ([\d.]+)/.exec(stdout)?.[1] ?? null) : null;
}

/** Of the file system that a folder will be made on. */
function freeBytesAt(folder: string): number {
  if (!existsSync(folder)) return freeBytesAt(dirname(folder));
  const { bavail, bsize } = statfsSync(folder);
  return bavail * bsize;
}
