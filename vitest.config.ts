import { availableParallelism } from 'node:os';
import { defineConfig } from 'vitest/config';

/** `npm run test:crash` is mode `long`: kills, bit flips and fuzz cases by the hundred. */
export default defineConfig(({ mode }) => ({
  test: {
    include: ['test/**/*.test.ts'],
    pool: 'forks',
    // Vitest leaves a core to itself. Of two that is one file at a time, and the longest file, Slurm's, mostly waits.
    maxWorkers: Math.max(2, availableParallelism() - 1),
    testTimeout: mode === 'long' ? 1_800_000 : 60_000,
    provide: { long: mode === 'long' },
  },
}));
