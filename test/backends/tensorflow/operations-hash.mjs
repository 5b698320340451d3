/** Prints a hash of the results of the project's own operations on a number of threads: node operations-hash.mjs THREADS */
import { createHash } from 'node:crypto';
import { tensor } from '@tensorflow/tfjs-core';
import { startTensorflow } from '../../../dist/backends/tensorflow/start.js';
import { setThreads } from '../../../dist/backends/tensorflow/threads.js';
import { geluGradKernel, geluKernel } from '../../../dist/ops/gelu.js';
import { addRmsNormKernel, rmsNormGradKernel } from '../../../dist/ops/rms-norm.js';
import { rotaryKernel, rotaryTable } from '../../../dist/ops/rotary.js';

setThreads(Number(process.argv[2]));
await startTensorflow();
const wave = (shape, phase) => {
  const size = shape.reduce((a, b) => a * b, 1);
  return tensor(
    Float32Array.from({ length: size }, (_, i) => Math.sin(i * 0.37 + phase)),
    shape,
  );
};
const [x, dy, gain] = [wave([2, 700, 96], 0), wave([2, 700, 96], 1), wave([96], 2)];
const normed = addRmsNormKernel({ x, branch: dy, gain }, {});
const results = [
  ...normed,
  ...rmsNormGradKernel({ dy, x, gain, inverseRms: normed[2], gradAccum: undefined }, {}),
  ...geluKernel({ x }, {}),
  ...geluGradKernel({ dy: dy.clone(), x }, {}),
  ...rotaryKernel({ qkv: x.clone(), table: rotaryTable(700, 16), positions: undefined }, {}),
];
const hash = createHash('sha256');
for (const result of results) hash.update(result.dataSync());
console.log(hash.digest('hex'));
