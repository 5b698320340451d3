/**
 * The figures of docs/scale.md: hours of each sweep of the paper on 1, 8 and 64 GPUs, one run per GPU, computed from step
 * times measured on an H100 and the overhead per run. `npm run build && node scripts/scale.mjs`
 */

import { parseShape } from '../dist/bench/shape.js';
import { loadSweepFile } from '../dist/config/sweep-file.js';
import { flopsPerPass } from '../dist/model/flops.js';
import { expandSweep } from '../dist/plan/expand.js';
import { shardOf } from '../dist/plan/shard.js';

/** `mod bench` on an H100, bf16: milliseconds per step, dense and with MoD 12.5% in every other block. */
const MEASURED = [
  { shape: 'd320l8t1024b128v256', dense: 32.5, routed: 19.6 },
  { shape: 'd512l8t2048b32v32768', dense: 48.2, routed: 33.9 },
  { shape: 'd768l12t2048b32v32768', dense: 111.4, routed: 72.4 },
];
/** Seconds per run in addition to its steps: start, compilation, evaluation, files. docs/scale.md describes the measurement. */
const OVERHEAD = 3.5;
const GPUS = [1, 8, 64];

const points = MEASURED.map(({ shape, dense, routed }) => ({
  d_model: parseShape(shape).model.d_model,
  dense: rateOf(shape, dense),
  routed: rateOf(`${shape}c0.125f2`, routed),
}));
for (const { d_model, dense, routed } of points) {
  console.log(`D ${d_model}: dense ${(dense / 1e12).toFixed(0)} TFLOP/s, MoD ${(routed / 1e12).toFixed(0)}`);
}

for (const name of ['6e18', '2e19', '1e20']) {
  const plan = expandSweep(loadSweepFile(`configs/${name}.yaml`)).filter(
    ({ status }) => status === 'pending',
  );
  const hours = (run) => run.train_flops / rateAt(run.spec.model) / 3600 + OVERHEAD / 3600;
  const sum = (runs) => runs.reduce((total, run) => total + hours(run), 0);
  const times = plan.map(hours);
  const fleet = GPUS.map((of) => {
    const queue = [...times].sort((a, b) => b - a);
    const busy = new Array(of).fill(0);
    for (const time of queue) busy[busy.indexOf(Math.min(...busy))] += time; // longest run first, to the GPU that is free first
    const shards = Array.from({ length: of }, (_, index) => sum(shardOf(plan, { index, of })));
    return {
      of,
      wall: Math.max(...busy),
      sharded: Math.max(...shards),
      busy: sum(plan) / of / Math.max(...busy),
    };
  });
  console.log(
    `${name}: ${plan.length} runs, ${sum(plan).toFixed(0)} h, longest ${Math.max(...times).toFixed(1)} h, shortest ${Math.min(...times).toFixed(1)} h`,
  );
  for (const { of, wall, sharded, busy } of fleet) {
    console.log(
      `  ${of} GPUs: ${wall.toFixed(1)} h, ${(100 * busy).toFixed(0)}% busy; with --shard ${sharded.toFixed(1)} h`,
    );
  }
}

/** FLOP/s of a measured step. */
function rateOf(shape, milliseconds) {
  const { model, batchSequences } = parseShape(shape);
  return (3 * flopsPerPass(model).total * batchSequences * 1000) / milliseconds;
}

/** The rate at a width: interpolated linearly in log width between measured ones, constant outside their range. */
function rateAt({ d_model, routing }) {
  const kind = routing === null ? 'dense' : 'routed';
  const next = points.findIndex((point) => point.d_model >= d_model);
  if (next === -1) return points.at(-1)[kind];
  if (next === 0) return points[0][kind];
  const [below, above] = [points[next - 1], points[next]];
  const share = Math.log(d_model / below.d_model) / Math.log(above.d_model / below.d_model);
  return below[kind] + share * (above[kind] - below[kind]);
}
