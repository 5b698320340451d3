/** The install reports what is missing before it downloads, pins its downloads, and activates the new library atomically. */
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { activate } from '../../../src/backends/tensorflow/install.js';
import {
  bindingPath,
  hasOperations,
  installedBinding,
  installName,
} from '../../../src/backends/tensorflow/package.js';
import { type InstallFacts, missingFor } from '../../../src/backends/tensorflow/prerequisites.js';
import { CPU_DISTRIBUTION, GPU_DISTRIBUTION, requirements } from '../../../src/backends/tensorflow/wheels.js';

const READY: InstallFacts = {
  platform: 'linux-x64',
  glibc: '2.36',
  compiler: 'g++',
  python: 'python3',
  pip: '23.2.1',
  freeBytes: 5e9,
};

describe('before anything is downloaded', () => {
  it.each<[string, Partial<InstallFacts>, RegExp[]]>([
    ['nothing is missing', {}, []],
    [
      'another platform',
      { platform: 'darwin-arm64', compiler: null },
      [/linux-x64.*this machine is darwin-arm64/],
    ],
    ['an old C library', { glibc: '2.17' }, [/glibc 2\.27 or later; this machine has 2\.17/]],
    ['musl', { glibc: null }, [/glibc 2\.27 or later/]],
    ['a later glibc of fewer digits', { glibc: '3.0' }, []],
    ['no compiler', { compiler: null }, [/C\+\+17 compiler: install g\+\+/]],
    ['no Python', { python: null, pip: null }, [/python3/]],
    ['a Python without pip', { pip: null }, [/pip for python3/]],
    ['an old pip', { pip: '20.0.2' }, [/pip 20\.3 or later; this machine has 20\.0\.2/]],
    ['a full disk', { freeBytes: 1e9 }, [/1\.5 GB of free disk space; this machine has 1\.0 GB/]],
    ['two things', { compiler: null, freeBytes: 0 }, [/compiler/, /free disk space/]],
  ])('%s', (_, changed, expected) => {
    const missing = missingFor({ ...READY, ...changed }, CPU_DISTRIBUTION);
    expect(missing).toHaveLength(expected.length);
    expected.forEach((pattern, i) => {
      expect(missing[i]).toMatch(pattern);
    });
  });

  it('the GPU distribution needs more disk', () => {
    expect(missingFor(READY, GPU_DISTRIBUTION)).toEqual([expect.stringMatching(/12\.0 GB of free disk/)]);
  });
});

it('every wheel is pinned by version and sha256', () => {
  for (const distribution of [CPU_DISTRIBUTION, GPU_DISTRIBUTION]) {
    const lines = requirements(distribution).trimEnd().split('\n');
    expect(lines).toHaveLength(distribution.wheels.length);
    for (const line of lines) expect(line).toMatch(/^[a-z0-9-]+==[\d.]+ --hash=sha256:[0-9a-f]{64}$/);
  }
});

describe('activating a staged install', () => {
  let folder: string;
  const staged = (content: string) => {
    const staging = join(folder, 'deps', '.staging-1');
    mkdirSync(staging, { recursive: true });
    writeFileSync(join(staging, 'tfjs_binding.node'), content);
    return staging;
  };
  const active = () => readFileSync(bindingPath(folder), 'utf8');

  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'mod-install-'));
  });
  afterEach(() => rmSync(folder, { recursive: true }));

  it('replaces any previous binding and removes its libraries', () => {
    mkdirSync(join(folder, 'lib', 'napi-v8'), { recursive: true });
    writeFileSync(bindingPath(folder), 'the package’s own download');
    mkdirSync(join(folder, 'deps', 'lib'), { recursive: true });
    activate(staged('first'), folder, CPU_DISTRIBUTION);
    expect(active()).toBe('first');
    activate(staged('second'), folder, GPU_DISTRIBUTION);
    expect(active()).toBe('second');
    expect(readdirSync(join(folder, 'deps'))).toEqual([installName(GPU_DISTRIBUTION.folder)]);
    expect(readdirSync(join(folder, 'lib', 'napi-v8'))).toEqual(['tfjs_binding.node']);
  });

  it('leaves the previous state until the link is replaced', () => {
    activate(staged('old'), folder, CPU_DISTRIBUTION);
    staged('interrupted before it was renamed');
    expect(active()).toBe('old');
    expect(installedBinding(folder)).toContain(installName(CPU_DISTRIBUTION.folder));
    expect(existsSync(join(folder, 'deps', '.staging-1'))).toBe(true);
  });

  it('recognizes a binding compiled from other source of the operations', () => {
    activate(staged('current'), folder, CPU_DISTRIBUTION);
    expect(hasOperations(installedBinding(folder) as string)).toBe(true);
    for (const other of ['lib', 'tensorflow-cpu-2.21.0', 'tensorflow-cpu-2.21.0-00000000'])
      expect(hasOperations(join(folder, 'deps', other, 'tfjs_binding.node'))).toBe(false);
  });
});
