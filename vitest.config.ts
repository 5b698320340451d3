import { defineConfig } from 'vitest/config';

/** `npm run test:crash` is mode `long`: kills, bit flips and fuzz cases by the hundred. */
export default defineConfig(({ mode }) => ({
  test: {
    include: ['test/**/*.test.ts'],
    pool: 'forks',
    testTimeout: mode === 'long' ? 1_800_000 : 60_000,
    provide: { long: mode === 'long' },
  },
}));
