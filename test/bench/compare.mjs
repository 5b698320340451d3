/**
 * npm run bench:peer [-- [--decode] SHAPE...]: compares `mod bench` on cuda with the same model in PyTorch with
 * torch.compile, training or decoding, alternating per shape on one machine. Requires a GPU and a python3 with PyTorch; the
 * GPU's busy share in our training also requires that trace.mjs can build its tracer.
 */
import { execFileSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { traced } from './trace.mjs';

const STANDARD = ['d320l8t1024b128v256', 'd512l8t2048b32v32768', 'd768l12t2048b32v32768'];
const MOD = process.env.MOD ?? fileURLToPath(new URL('../../bin/mod.js', import.meta.url));
const PEER = fileURLToPath(new URL('./peer.py', import.meta.url));
const DECODING = ['d320l8t1024b1v256', 'd320l8t1024b64v256', 'd768l12t2048b1v32768', 'd768l12t2048b64v32768'];
const DECODING_PEER = fileURLToPath(new URL('./peer-decode.py', import.meta.url));

const lastLine = (text) => text.trim().split('\n').at(-1);
const run = (command, args) =>
  execFileSync(command, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'inherit'] });

function bench(...args) {
  const [command, ...before] = MOD.endsWith('.js') ? [process.execPath, MOD] : [MOD];
  return [command, [...before, 'bench', '--backend', 'cuda', '--json', ...args]];
}

/**
 * The measurements of `mod bench`, and the share of a step in which kernels run, null if unknown. Both times of that share
 * come from the traced process, because another process may have picked other algorithms.
 */
function training(shape) {
  const [row] = JSON.parse(run(...bench('--shape', shape, '--steps', '9')));
  const trace = traced(...bench('--shape', shape, '--steps', '3'));
  return { ...row, busy: trace === null ? null : trace.busy_ms / trace.period_ms };
}

const peerResult = (script, shape) => JSON.parse(lastLine(run('python3', [script, shape])));

function compareDecoding(shapes) {
  console.log('shape                          mod tok/s  peer tok/s  mod/peer');
  for (const shape of shapes) {
    const [mod] = JSON.parse(run(...bench('--decode', '--shape', shape)));
    const peer = peerResult(DECODING_PEER, shape);
    const cells = [
      Math.round(mod.tokensPerSecond),
      Math.round(peer.tokens_per_s),
      (mod.tokensPerSecond / peer.tokens_per_s).toFixed(3),
    ];
    console.log(shape.padEnd(28), cells.map((cell) => String(cell).padStart(11)).join(' '));
  }
}

const gib = (bytes) => (bytes / 2 ** 30).toFixed(1);

function compareTraining(shapes) {
  console.log('shape                          mod ms  peer ms peer/mod  mod GiB peer GiB mod busy peer busy');
  const rows = shapes.map((shape) => {
    const [mod, peer] = [training(shape), peerResult(PEER, shape)];
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
    return { shape, mod, peer };
  });
  const ratio = (a, b) => (a / b).toFixed(3);
  for (const { shape, mod, peer } of rows) {
    const dense = rows.find((row) => row.shape === shape.replace(/c[\d.]+f\d+$/, ''));
    if (dense === undefined || dense.shape === shape) continue;
    const [ours, others] = [ratio(mod.stepMs, dense.mod.stepMs), ratio(peer.step_ms, dense.peer.step_ms)];
    console.log(`${shape}: step time / dense: mod ${ours}, peer ${others}`);
  }
  console.log(rows[0]?.mod.device);
}

const given = process.argv.slice(2);
const isDecoding = given[0] === '--decode';
const shapes = given.slice(isDecoding ? 1 : 0);
if (isDecoding) compareDecoding(shapes.length > 0 ? shapes : DECODING);
else compareTraining(shapes.length > 0 ? shapes : STANDARD.flatMap((shape) => [shape, `${shape}c0.125f2`]));
