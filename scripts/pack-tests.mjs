/**
 * Bundles the tests that need a GPU for a machine without network: run node scripts/pack-tests.mjs after `npm run pack`. The
 * bundles go to test/ of the unpacked archive. Run all there by ./node test/all.mjs, see packed-tests.mjs, or one by
 * ./node test/<file>.mjs [pattern of test names]
 */
import { cpSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { rolldown } from 'rolldown';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');
const [program] = readdirSync(join(root, 'pack')).filter((entry) => /^mod-.*-x64$/.test(entry));
const target = join(root, 'pack', program, 'test');
const FILES = [
  'backends/cuda/kernels',
  'ops/gradients',
  'backends/cuda/short-attention',
  'golden/golden',
  'backends/cuda/training',
  'backends/cuda/decode',
  'backends/cuda/in-place',
  'backends/cuda/padded-rows',
  'ops/gates',
  'model/decoder',
  'model/experts',
  'model/properties',
  'run/resume',
  'train/optimizers',
  'train/deterministic',
  'train/router-thresholds',
];
/** Processes that share the cases of a file, each of which has its own inputs and reference. */
const PROCESSES = { 'backends/cuda/kernels': 8, 'ops/gradients': 2, 'backends/cuda/short-attention': 2 };

/** Packages that are already in the archive: tfjs must be loaded only once. */
const { dependencies } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));
const packed = [...Object.keys(dependencies), '@tensorflow/tfjs-backend-cpu'];
const isPacked = (id) => packed.some((name) => id === name || id.startsWith(`${name}/`));

rmSync(target, { recursive: true, force: true });
mkdirSync(target, { recursive: true });
for (const file of FILES) {
  const name = basename(file);
  const entry = join(target, `${name}.entry.ts`);
  const from = JSON.stringify(join(root, 'test', `${file}.test.ts`));
  const runner = JSON.stringify(join(root, 'test/support/bare-vitest.ts'));
  writeFileSync(
    entry,
    `import ${from};\nimport { runRegistered } from ${runner};\n` +
      `await runRegistered('${name}', new RegExp(process.argv[2] ?? ''), process.argv[3]);\n`,
  );
  const bundle = await rolldown({
    input: entry,
    platform: 'node',
    external: isPacked,
    resolve: {
      alias: { vitest: join(root, 'test/support/bare-vitest.ts') },
      extensionAlias: { '.js': ['.ts', '.js'] },
    },
  });
  await bundle.write({ file: join(target, `${name}.mjs`), format: 'esm', codeSplitting: false });
  rmSync(entry);
}
cpSync(join(root, 'scripts/packed-tests.mjs'), join(target, 'all.mjs'));
writeFileSync(
  join(target, 'bundles.json'),
  JSON.stringify(FILES.map((file) => [basename(file), PROCESSES[file] ?? 1])),
);
// A bundle reads the kernels from its own folder, see kernels/files.ts.
for (const file of readdirSync(join(root, 'src/backends/cuda/kernels'))) {
  if (file.endsWith('.cu')) cpSync(join(root, 'src/backends/cuda/kernels', file), join(target, file));
}
const golden = join(root, 'test/golden');
for (const each of readdirSync(golden, { withFileTypes: true })) {
  if (each.isDirectory())
    cpSync(join(golden, each.name), join(target, 'golden', each.name), { recursive: true });
}
const cpu = 'node_modules/@tensorflow/tfjs-backend-cpu';
for (const file of ['package.json', 'dist/tf-backend-cpu.node.js']) {
  cpSync(join(root, cpu, file), join(target, '..', cpu, file), { recursive: true });
}
