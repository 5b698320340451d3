/**
 * Runs the tests that pack-tests.mjs has bundled, several processes at a time on one GPU: most of their time is the references
 * on the CPU and the compilation of kernels. In the unpacked archive: ./node test/all.mjs [--jobs N] [pattern of test names]
 */
import { spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';

/** Seconds after which the processes that are left are ended, and count as failed. */
const LIMIT = 290;
/** Each process has a context and libraries of about 1 GiB on the GPU. */
const MOST_JOBS = 14;

const { values, positionals } = parseArgs({ options: { jobs: { type: 'string' } }, allowPositionals: true });
const jobs = Number(values.jobs ?? Math.max(1, Math.min(MOST_JOBS, availableParallelism() - 1)));
const [pattern = ''] = positionals;

/** [bundle, number of processes that share its cases], the longest first. */
const bundles = JSON.parse(readFileSync(join(import.meta.dirname, 'bundles.json'), 'utf8'));
const queue = bundles.flatMap(([name, of]) => Array.from({ length: of }, (_, i) => [name, `${i}/${of}`]));
const running = new Set();
const started = performance.now();
const seconds = () => ((performance.now() - started) / 1000).toFixed(1);
let failed = 0;

async function worker() {
  for (let next = queue.shift(); next !== undefined; next = queue.shift()) {
    const [name, shard] = next;
    const { code, text } = await run([join(import.meta.dirname, `${name}.mjs`), pattern, shard]);
    if (code !== 0) failed += 1;
    process.stdout.write(`${seconds()} s ${name} ${shard}${code === 0 ? '' : ` FAILED (${code})`}\n${text}`);
  }
}

/** The exit code or signal of a process, and what it printed; if it failed also the end of its standard error. */
function run(args) {
  return new Promise((resolve) => {
    const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'pipe'] });
    running.add(child);
    let [text, errors] = ['', ''];
    child.stdout.on('data', (part) => {
      text += part;
    });
    child.stderr.on('data', (part) => {
      errors = (errors + part).slice(-2000);
    });
    child.on('close', (code, signal) => {
      running.delete(child);
      const last = errors.trim().split('\n').slice(-5).join('\n');
      resolve({ code: code ?? signal, text: code === 0 ? text : `${text}${last}\n` });
    });
  });
}

const timer = setTimeout(() => {
  process.stdout.write(`${seconds()} s: the limit; not started: ${queue.length}, ended: ${running.size}\n`);
  failed += queue.length;
  queue.length = 0;
  for (const child of running) child.kill('SIGKILL');
}, 1000 * LIMIT);
await Promise.all(Array.from({ length: jobs }, worker));
clearTimeout(timer);
process.stdout.write(`${failed === 0 ? 'all passed' : `${failed} processes failed`} in ${seconds()} s\n`);
process.exitCode = failed === 0 ? 0 : 1;
