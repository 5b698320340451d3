/** Failures are reported once, again when something changes, and not at all once accepted. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { makeResultsFolder } from '../../src/files/atomic.js';
import type { RunEnd } from '../../src/run/messages.js';
import { compareFailures } from '../../src/sweep/reported.js';

let results: string;
let folder: string;
beforeEach(() => {
  results = mkdtempSync(join(tmpdir(), 'mod-reported-'));
  folder = join(results, 'a');
  makeResultsFolder(folder);
});
afterEach(() => rmSync(results, { recursive: true }));

const diverged: RunEnd = { runId: 'x', status: 'diverged', note: 'loss NaN' };
const failed: RunEnd = { runId: 'y', status: 'failed', note: 'killed by SIGSEGV' };

/** One call of the sweep with these failures. */
function call(ends: RunEnd[], { trained = [] as RunEnd[], accept = false, selected = ['x', 'y'] } = {}) {
  const { failed: open, unreported } = compareFailures(folder, selected, ends, trained, accept);
  return [open, unreported].map((some) => some.map(({ runId }) => runId).join(' '));
}

it('reports a failure once, and again when its note, its status or its training changes', () => {
  expect(call([diverged, failed], { trained: [diverged, failed] })).toEqual(['x y', 'x y']);
  expect(call([diverged, failed], { trained: [failed] })).toEqual(['x y', '']);
  expect(call([diverged, { ...failed, note: 'out of disk' }])).toEqual(['x y', 'y']);
  expect(call([diverged])).toEqual(['x', '']);
  expect(call([diverged, failed])).toEqual(['x y', 'y']); // failed again after it had not
  expect(call([diverged], { trained: [diverged] })).toEqual(['x', 'x']); // under --retry
});

it('keeps what calls for other runs have reported', () => {
  call([diverged]);
  expect(call([failed], { selected: ['y'] })).toEqual(['y', 'y']);
  expect(call([diverged, failed])).toEqual(['x y', '']);
});

it('does not count diverged runs once accepted, until they are trained again; other failures always', () => {
  expect(call([diverged, failed], { accept: true })).toEqual(['y', 'y']);
  expect(call([diverged, failed])).toEqual(['y', '']);
  expect(call([diverged], { trained: [diverged] })).toEqual(['x', 'x']);
});
