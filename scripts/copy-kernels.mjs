/** Puts the CUDA kernels beside the compiled TypeScript that launches them: tsc copies nothing but its own. */
import { cpSync } from 'node:fs';

const kernels = 'backends/cuda/kernels';
cpSync(new URL(`../src/${kernels}`, import.meta.url), new URL(`../dist/${kernels}`, import.meta.url), {
  recursive: true,
});
