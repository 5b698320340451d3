import { availableParallelism } from 'node:os';
import { configDefaults, defineConfig } from 'vitest/config';

/** Sweeps on a Slurm cluster of two nodes on this machine. */
export const CLUSTER = ['test/slurm/cluster.test.ts'];
/** Tests that start the program, train models or open a browser: seconds to minutes each. */
export const INTEGRATION = [
  'test/backends/cuda/{compile,fake-driver,out-of-memory,packed-evaluation,padded-products,plans,thresholds}.test.ts',
  'test/backends/tensorflow/**/*.test.ts',
  'test/bench/{coordinates,plan,tokenizers}.test.ts',
  'test/cli.test.ts',
  'test/closed-choices.test.ts',
  'test/commands/{completion,data,generate,init,tune}.test.ts',
  'test/crash/**/*.test.ts',
  'test/environments/**/*.test.ts',
  'test/eval/eval.test.ts',
  'test/examples/pytorch.test.ts',
  'test/export/export.test.ts',
  'test/files/{atomic,lock}.test.ts',
  'test/golden/**/*.test.ts',
  'test/model/{decoder,experts,memory,normal-threads,properties}.test.ts',
  'test/ops/{gradients,kernels}.test.ts',
  'test/report/{any-sweep,calibration,page,prediction}.test.ts',
  'test/repository.test.ts',
  'test/results/folders.test.ts',
  'test/run/resume.test.ts',
  'test/slurm/submit.test.ts',
  'test/sweep/{cron,experts,heldout,lost-gpus,sweep}.test.ts',
  'test/train/deterministic.test.ts',
];

/**
 * `npx vitest --project unit` is what one runs while writing: under a minute on two cores. `npm test` runs all three.
 * `npm run test:crash` is mode `long`: kills, bit flips and fuzz cases by the hundred.
 */
export default defineConfig(({ mode }) => {
  /** Milliseconds. These tests start processes that compete for the cores: at half speed some take two minutes. */
  const slowTest = mode === 'long' ? 1_800_000 : 180_000;
  return {
    test: {
      pool: 'forks',
      // Vitest keeps one core free by default. On two cores that is one file at a time; Slurm's, the longest, mostly waits.
      maxWorkers: Math.max(2, availableParallelism() - 1),
      testTimeout: 60_000,
      hookTimeout: 180_000, // some train a sweep
      provide: { long: mode === 'long' },
      projects: [
        {
          extends: true,
          test: {
            name: 'unit',
            include: ['test/**/*.test.ts'],
            exclude: [...configDefaults.exclude, ...INTEGRATION, ...CLUSTER],
            // Loading tfjs takes longer than most of these tests: files of one worker share it.
            isolate: false,
          },
        },
        { extends: true, test: { name: 'integration', include: INTEGRATION, testTimeout: slowTest } },
        { extends: true, test: { name: 'cluster', include: CLUSTER, testTimeout: slowTest } },
      ],
    },
  };
});
