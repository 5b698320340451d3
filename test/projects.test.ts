/** Unit tests stay fast: tests that start processes belong to the projects `integration` and `cluster` of vitest.config.ts. */
import { readFileSync } from 'node:fs';
import { globSync } from 'tinyglobby';
import { expect, it } from 'vitest';
import { CLUSTER, INTEGRATION } from '../vitest.config.js';

const elsewhere = globSync([...INTEGRATION, ...CLUSTER]);
const unit = globSync('test/**/*.test.ts', { ignore: elsewhere });

/** Starts of the program or of other processes, directly or through a helper. */
const STARTS_PROCESSES = /support\/(mod|slurm)\.js'|\b(spawn|spawnSync|fork|execFile|execFileSync)\(/;

it.each(unit)('%s starts no process', (path) => {
  expect(readFileSync(path, 'utf8')).not.toMatch(STARTS_PROCESSES);
});

it('every pattern of another project matches a file', () => {
  for (const pattern of [...INTEGRATION, ...CLUSTER]) expect(globSync(pattern), pattern).not.toHaveLength(0);
});
