/** Machines as people have them: no home, few open files, odd names, folders that moved, packages that were left out. */
import { spawn } from 'node:child_process';
import {
  chmodSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { homedir, tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { findFiles } from '../../src/data/files.js';
import { programFlock } from '../../src/files/flock.js';
import { cacheFolder, movesCursor, openFileLimit } from '../../src/machine.js';
import { runRows, TINY_SWEEP } from '../support/tiny-sweep.js';

const PROGRAM = fileURLToPath(new URL('../../bin/mod.js', import.meta.url));
/** One short run, on 40 files. */
const SWEEP = TINY_SWEEP.replace('[0.25]', '[]').replace('train.txt', "'train-*.txt'");

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'mod-environments-'));
  chmodSync(folder, 0o755); // other users read it
});
afterAll(() => rmSync(folder, { recursive: true }));

/** A sweep in a new folder of this name. */
function sweepIn(name: string): string {
  const here = join(folder, name);
  mkdirSync(here);
  const words = Array.from({ length: 600 }, (_, i) => `the ${i * i} of ${i}`).join(' ');
  for (let i = 0; i < 40; i++) writeFileSync(join(here, `train-${i}.txt`), `${i} ${words.slice(i * 20)}`);
  writeFileSync(join(here, 'heldout.txt'), words.slice(0, 500).toUpperCase());
  writeFileSync(join(here, 'tiny.yaml'), SWEEP);
  return here;
}

interface Start {
  cwd: string;
  /** Replaces the whole environment, PATH aside. */
  env?: Record<string, string>;
  uid?: number;
  /** A line of bash before the program. */
  before?: string;
}

function mod(args: string[], { before = '', cwd, env = {}, uid }: Start) {
  const child = spawn('bash', ['-c', `${before}\nexec "$0" "$@"`, process.execPath, PROGRAM, ...args], {
    cwd,
    env: { PATH: process.env.PATH ?? '', ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
    ...(uid === undefined ? {} : { uid }),
  });
  let [stdout, stderr] = ['', ''];
  child.stdout.on('data', (part) => {
    stdout += part;
  });
  child.stderr.on('data', (part) => {
    stderr += part;
  });
  return new Promise<{ code: number | null; stdout: string; stderr: string }>((resolve) => {
    child.on('close', (code) => resolve({ code, stdout, stderr }));
  });
}

it('trains with 64 open files, without a home or a temporary folder, in a folder with a backslash; its tree may move', async () => {
  const cwd = sweepIn('a\\b c');
  const env = { HOME: '/nonexistent', TMPDIR: join(folder, 'missing') };
  const trained = await mod(['sweep', 'tiny.yaml', '--quiet'], { cwd, env, before: 'ulimit -n 64' });
  expect(trained).toEqual({ code: 0, stdout: '', stderr: '' });
  const statuses = () => runRows({ results: join(moved, 'results') }).map(({ status }) => status);

  const moved = join(folder, 'moved');
  renameSync(cwd, moved);
  for (const link of ['results/loop', 'results/tiny/loop', 'loop']) symlinkSync('loop', join(moved, link));
  symlinkSync('..', join(moved, 'results/tiny/up'));
  const evaluated = await mod(['eval', 'tiny', '--json'], { cwd: moved, env: { TMPDIR: 'relative' } });
  expect(evaluated).toMatchObject({ code: 0, stdout: expect.stringContaining('"routing": "topk"') });
  const again = await mod(['sweep', 'tiny.yaml'], { cwd: moved });
  expect(again).toMatchObject({ code: 0, stdout: expect.stringContaining('1 of 1 runs are done') });
  expect((await mod(['status'], { cwd: moved })).stdout).toMatch(/^tiny: 100% /); // the newest sweep, past the links
  expect(statuses()).toEqual(['done']);
});

/** Makes the native packages impossible to import, as after npm install --omit=optional. */
const WITHOUT_NATIVE = `--import data:text/javascript,${encodeURIComponent(
  `import module from 'node:module';
const hook = \`function resolve(name, context, next) {
  if (name === 'koffi' || name === '@resvg/resvg-js') throw new Error('left out');
  return next(name, context);
}\`;
if (module.registerHooks) module.registerHooks({ resolve: eval('(' + hook + ')') });
else module.register('data:text/javascript,export ' + encodeURIComponent(hook));`,
)}`;

it('trains and reports without optional packages: locks by flock(1), figures as SVG', async () => {
  const cwd = sweepIn('omit');
  const env = { NODE_OPTIONS: WITHOUT_NATIVE };
  expect(await mod(['sweep', 'tiny.yaml', '--quiet'], { cwd, env })).toEqual({
    code: 0,
    stdout: '',
    stderr: '',
  });
  const { code, stderr } = await mod(['report', 'tiny'], { cwd, env });
  expect([code, stderr]).toEqual([
    0,
    'no PNG figures, only SVG: the native part of @resvg/resvg-js is missing, which npm leaves out under --omit=optional; install without it\n',
  ]);
  const figures = readdirSync(join(cwd, 'results/tiny/report/figures'));
  expect(figures).toContain('isoflop-3e8.svg');
  expect(figures.filter((name) => name.endsWith('.png'))).toEqual([]);
});

it('locks by flock(1) exclude other open files until theirs is closed', () => {
  const path = join(folder, 'lock');
  const [first, second] = [openSync(path, 'a+'), openSync(path, 'a+')];
  expect(programFlock(first, 'exclusive')).toBeNull();
  expect(programFlock(second, 'shared')).toBe('EAGAIN');
  expect(programFlock(first, 'unlock')).toBeNull();
  expect(programFlock(second, 'exclusive')).toBeNull();
  expect(programFlock(first, 'shared')).toBe('EAGAIN');
});

it.skipIf(process.getuid?.() !== 0)('plans for a user without a name and a home', async () => {
  const { code, stdout } = await mod(['plan', 'tiny.yaml'], { cwd: sweepIn('nobody'), uid: 12345 });
  expect([code, stdout]).toEqual([0, expect.stringContaining('1 of 1 runs can be trained')]);
});

it('the cache is in the home folder or an absolute XDG_CACHE_HOME', () => {
  expect(cacheFolder({ XDG_CACHE_HOME: '/cache' })).toBe('/cache/mod');
  for (const env of [{}, { XDG_CACHE_HOME: '' }, { XDG_CACHE_HOME: 'relative' }]) {
    expect(cacheFolder(env)).toBe(join(homedir(), '.cache/mod'));
  }
});

it('redraws on a terminal that moves its cursor', () => {
  expect(movesCursor({ isTTY: true }, { TERM: 'xterm' })).toBe(true);
  expect(movesCursor({ isTTY: true }, { TERM: 'dumb' })).toBe(false);
  expect(movesCursor({ isTTY: false }, { TERM: 'xterm' })).toBe(false);
});

it('reads the limit of open files', () => {
  expect(openFileLimit('Max open files            64                   4096                 files')).toBe(64);
  expect(openFileLimit('Max open files            unlimited            unlimited            files')).toBe(
    Number.POSITIVE_INFINITY,
  );
  expect(openFileLimit(null)).toBe(Number.POSITIVE_INFINITY);
});

it('finds data in folders with backslashes, once through links in circles, and in node_modules of a parent', () => {
  const here = join(folder, 'data\\x');
  const configs = join(here, 'node_modules/mod/configs');
  mkdirSync(configs, { recursive: true });
  mkdirSync(join(here, 'node_modules/text'));
  for (const name of ['a.txt', 'b\\c.txt', 'node_modules/text/t.txt'])
    writeFileSync(join(here, name), 'text');
  symlinkSync('..', join(here, 'node_modules/up'));
  symlinkSync('self', join(here, 'self'));
  const names = (pattern: string, from = here) => findFiles([pattern], from).map(({ name }) => name);
  expect(names('*.txt')).toEqual(['a.txt', 'b\\c.txt']);
  expect(names('b\\c.txt')).toEqual(['b\\c.txt']);
  expect(names('b\\\\*.txt')).toEqual(['b\\c.txt']);
  expect(names('**/*.txt')).toEqual(['a.txt', 'b\\c.txt', 'node_modules/text/t.txt']);
  const hoisted = '../node_modules/text/t.txt';
  expect(findFiles([hoisted], configs)).toEqual([
    { path: join(here, 'node_modules/text/t.txt'), name: hoisted, named: true },
  ]);
  expect(() => names('../node_modules/text/missing.txt', configs)).toThrow('no file matches');
  const gone = join(folder, 'gone');
  expect(() => names('a.txt', gone)).toThrow(
    `no file matches 'a.txt' (relative to ${gone}, which is not there: if it was moved, start mod sweep once with the sweep file at its new place)`,
  );
});
