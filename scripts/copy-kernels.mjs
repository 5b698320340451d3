/** Copies CUDA kernels, TensorFlow operations and the page's script into dist/, next to the compiled TypeScript that uses them. */
import { cpSync, readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));
const cuFiles = (folder) =>
  readdirSync(folder).flatMap((name) => (name.endsWith('.cu') ? [join(folder, name)] : []));

/** src/backends/cuda/kernels also contains TypeScript, which is compiled into dist. */
const kernels = join(root, 'dist/backends/cuda/kernels');
for (const old of cuFiles(kernels)) rmSync(old);
cpSync(join(root, 'src/backends/cuda/kernels'), kernels, {
  recursive: true,
  filter: (path) => !path.endsWith('.ts'),
});

const native = join(root, 'dist/backends/tensorflow/native');
rmSync(native, { recursive: true, force: true });
cpSync(join(root, 'src/backends/tensorflow/native'), native, { recursive: true });

for (const name of readdirSync(join(root, 'src/report/page'))) {
  if (name.endsWith('.js')) cpSync(join(root, 'src/report/page', name), join(root, 'dist/report/page', name));
}
