/**
 * npm run bench:peer [-- SHAPE...]: `mod bench` on cuda and the same step in PyTorch with torch.compile, shape by shape in
 * turn on one machine, and the table of both. Needs a GPU and a python3 that has PyTorch; how busy ours keeps the GPU is
 * known where trace.mjs can build its tracer, too.
 */
import { execFileSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { traced } from './trace.mjs';

const STANDARD = ['d320l8t1024b128v256', 'd512l8t2048b32v32768', 'd768l12t2048b32v32768'];
const MOD = process.env.MOD ?? fileURLToPath(new URL('../../bin/mod.js', import.meta.url));
const PEER = fileURLToPath(new URL('./peer.py', import.meta.url));

const given = process.argv.slice(2);
const shapes = given.length > 0 ? given : STANDARD.flatMap((shape) => [shape, `${shape}c0.125f2`]);

const lastLine = (text) => text.trim().split('\n').at(-1);
const run = (command, args) =>
  execFileSync(command, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'inherit'] });

/** What `mod bench` measures, and the share of that time in which kernels run, or null. */
function ours(shape) {
  const args = ['bench', '--backend', 'cuda', '--shape', shape, '--json', '--steps'];
  const [command, ...before] = MOD.endsWith('.js') ? [process.execPath, MOD] : [MOD];
  const [row] = JSON.parse(run(command, [...before, ...args, '9']));
  const trace = traced(command, [...before, ...args, '3']);
  return { ...row, busy: trace === null ? null : Math.min(1, trace.busy_ms / row.stepMs) };
}

const rows = shapes.map((shape) => ({
  shape,
  mod: ours(shape),
  peer: JSON.parse(lastLine(run('python3', [PEER, shape]))),
}));

const gib = (bytes) => (bytes / 2 ** 30).toFixed(1);
console.log(`${rows[0]?.mod.device}\n`);
console.log('shape                          mod ms  peer ms peer/mod  mod GiB peer GiB mod busy peer busy');
for (const { shape, mod, peer } of rows) {
  const cells = [
    mod.stepMs.toFixed(2),
    peer.step_ms.toFixed(2),
    (peer.step_ms / mod.stepMs).toFixed(3),
    gib(mod.peakMemoryBytes),
    gib(peer.peak_bytes),
    mod.busy?.toFixed(3) ?? 'no trace',
    peer.busy.toFixed(3),
  ];
  console.log(shape.padEnd(28), cells.map((cell) => cell.padStart(8)).join(' '));
}
for (const { shape, mod, peer } of rows) {
  const dense = rows.find((row) => row.shape === shape.replace(/c[\d.]+f\d+$/, ''));
  if (dense === undefined || dense.shape === shape) continue;
  const ratio = (a, b) => (a / b).toFixed(3);
  console.log(
    `${shape}: step over dense ${ratio(mod.stepMs, dense.mod.stepMs)}, the peer's ${ratio(peer.step_ms, dense.peer.step_ms)}`,
  );
}
