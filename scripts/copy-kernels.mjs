/** Puts CUDA kernels and TensorFlow operations beside the compiled TypeScript that uses them: tsc copies only its own. */
import { cpSync } from 'node:fs';

for (const sources of ['backends/cuda/kernels', 'backends/tensorflow/native']) {
  cpSync(new URL(`../src/${sources}`, import.meta.url), new URL(`../dist/${sources}`, import.meta.url), {
    recursive: true,
  });
}
