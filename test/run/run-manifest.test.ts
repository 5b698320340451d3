/** The note of a run that more than one version of the program trained. */
import { expect, it } from 'vitest';
import type { Attempt } from '../../src/results/run-folder.js';
import { versionsNote } from '../../src/run/run-manifest.js';

const attempt = (from_step: number, version?: string, git_commit: string | null = null): Attempt => ({
  started_at: '2026-01-01T00:00:00.000Z',
  from_step,
  backend: 'wasm',
  device: 'a processor',
  git_commit,
  ...(version === undefined ? {} : { version }),
});

it.each<[Attempt[], string[]]>([
  [[attempt(0, '1.0.0')], []],
  [[attempt(0, '1.0.0', 'abc'), attempt(50, '1.0.0', 'abc')], []],
  [
    [attempt(0, '1.0.0'), attempt(50, '1.1.0'), attempt(70, '1.1.0')],
    ['trained by more than one version of mod: 1.0.0 from step 0, 1.1.0 from step 50'],
  ],
  [
    [attempt(0, '1.0.0', 'a'.repeat(40)), attempt(50, '1.0.0', 'b'.repeat(40))],
    [
      'trained by more than one version of mod: 1.0.0 (commit aaaaaaaaaaaa) from step 0, 1.0.0 (commit bbbbbbbbbbbb) from step 50',
    ],
  ],
  [
    [attempt(0), attempt(9, '1.0.0')],
    ['trained by more than one version of mod: unknown version from step 0, 1.0.0 from step 9'],
  ],
  // The second attempt found no checkpoint and started over: nothing of the first is left.
  [[attempt(0, '1.0.0'), attempt(0, '1.1.0'), attempt(50, '1.1.0')], []],
])('%#', (attempts, note) => {
  expect(versionsNote(attempts)).toEqual(note);
});
