/** Puts CUDA kernels and TensorFlow operations beside the compiled TypeScript that uses them: tsc copies only its own. */
import { cpSync, rmSync } from 'node:fs';

for (const sources of ['backends/cuda/kernels', 'backends/tensorflow/native']) {
  const target = new URL(`../dist/${sources}`, import.meta.url);
  rmSync(target, { recursive: true, force: true });
  cpSync(new URL(`../src/${sources}`, import.meta.url), target, { recursive: true });
}
