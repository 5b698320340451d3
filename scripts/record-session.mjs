/**
 * Records docs/session.txt: the five commands from a folder of text to a report and a sample, on this machine, as one sees
 * them in a terminal of 80 columns. The text is src/ of this repository. Run node scripts/record-session.mjs [HOURS] after
 * `npm run build`; on two cores it takes some minutes more than HOURS, 0.08 by default.
 */
import { spawn } from 'node:child_process';
import { cpSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));
const hours = process.argv[2] ?? '0.08';
const folder = mkdtempSync(join(tmpdir(), 'mod-session-'));
cpSync(join(root, 'src'), join(folder, 'corpus'), { recursive: true });

const COMMANDS = [
  ['init', 'corpus', '--hours', hours, '--backend', 'wasm'],
  ['plan', 'corpus.yaml'],
  ['sweep', 'corpus.yaml', '--backend', 'wasm'],
  ['report', 'corpus'],
  ['generate', 'corpus', '--best', '--prompt', 'import { ', '--tokens', '200', '--backend', 'wasm'],
];
/** Lines of output that are kept from the start and the end of a long one. */
const [HEAD, TAIL] = [14, 26];

/** What a command prints on both streams, in order, and the seconds that it took. */
function run(args) {
  return new Promise((resolve, reject) => {
    const started = performance.now();
    const child = spawn(process.execPath, [join(root, 'bin/mod.js'), ...args], {
      cwd: folder,
      env: { ...process.env, COLUMNS: '80', NO_COLOR: '1' },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    let text = '';
    for (const stream of [child.stdout, child.stderr]) {
      stream.setEncoding('utf8');
      stream.on('data', (part) => {
        text += part;
      });
    }
    child.on('error', reject);
    child.on('close', (code) => {
      if (code !== 0) reject(new Error(`mod ${args.join(' ')} exited with ${code}:\n${text}`));
      else resolve({ text, seconds: Math.round((performance.now() - started) / 1000) });
    });
  });
}

const shortened = (lines) =>
  lines.length <= HEAD + TAIL + 1
    ? lines
    : [...lines.slice(0, HEAD), `[${lines.length - HEAD - TAIL} lines]`, ...lines.slice(-TAIL)];
const quoted = (arg) => (/[^\w./-]/.test(arg) ? `'${arg}'` : arg);

const session = [];
let total = 0;
try {
  for (const args of COMMANDS) {
    const { text, seconds } = await run(args);
    total += seconds;
    const lines = text.replaceAll(`${folder}/`, '').trimEnd().split('\n');
    session.push(`$ mod ${args.map(quoted).join(' ')}`, ...shortened(lines), '', `[${seconds} s]`, '');
    console.log(`mod ${args[0]}: ${seconds} s`);
  }
} finally {
  rmSync(folder, { recursive: true });
}
session.push(`[${total} s in all, on two cores; recorded by scripts/record-session.mjs]`, '');
writeFileSync(join(root, 'docs/session.txt'), session.join('\n'));
