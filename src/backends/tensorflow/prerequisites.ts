/** The prerequisites of a TensorFlow install, checked before anything is downloaded. */
import { spawnSync } from 'node:child_process';
import { existsSync, statfsSync } from 'node:fs';
import { dirname } from 'node:path';
import type { Distribution } from './wheels.js';

export interface InstallFacts {
  /** Operating system and processor as Node names them: 'linux-x64'. */
  platform: string;
  /** Version of glibc; null for another C library. */
  glibc: string | null;
  /** The command of a C++ compiler that runs; null if there is none. */
  compiler: string | null;
  /** The command of a Python that runs; null if there is none. */
  python: string | null;
  /** Version of that Python's pip; null if it has none. */
  pip: string | null;
  /** Free disk space where the install goes, in bytes. */
  freeBytes: number;
}

/** The oldest glibc that the wheels support: they are manylinux_2_27. */
const GLIBC = '2.27';
/** The first version that supports manylinux tags with a glibc version. */
const PIP = '20.3';

/** The facts of this machine; `folder` is where the install goes. */
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

/** One line for each missing prerequisite, with what to do about it; empty if the install can start. */
export function missingFor(facts: InstallFacts, { diskBytes }: Distribution): string[] {
  if (facts.platform !== 'linux-x64')
    return [
      `linux-x64, for which the TensorFlow wheels are built; this machine is ${facts.platform}: use --backend wasm`,
    ];
  const missing: string[] = [];
  if (facts.glibc === null || !isAtLeast(facts.glibc, GLIBC))
    missing.push(`glibc ${GLIBC} or later; this machine has ${facts.glibc ?? 'another C library'}`);
  if (facts.compiler === null)
    missing.push('a C++17 compiler: install g++ (on Debian: apt install g++) or clang++, or set CXX to one');
  if (facts.python === null)
    missing.push(
      'python3 with pip, which downloads the wheels: install it (on Debian: apt install python3-pip)',
    );
  else if (facts.pip === null)
    missing.push(`pip for ${facts.python}: install it (on Debian: apt install python3-pip)`);
  else if (!isAtLeast(facts.pip, PIP))
    missing.push(
      `pip ${PIP} or later; this machine has ${facts.pip}: ${facts.python} -m pip install --user --upgrade pip`,
    );
  if (facts.freeBytes < diskBytes)
    missing.push(
      `${gigabytes(diskBytes)} of free disk space; this machine has ${gigabytes(facts.freeBytes)}`,
    );
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

/** Free space on the file system of a folder that may not exist yet. */
function freeBytesAt(folder: string): number {
  if (!existsSync(folder)) return freeBytesAt(dirname(folder));
  const { bavail, bsize } = statfsSync(folder);
  return bavail * bsize;
}
