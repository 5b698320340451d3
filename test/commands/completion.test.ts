/** Completion in real shells: commands, options, their choices, files, sweeps and runs. */
import { type ChildProcessWithoutNullStreams, spawn, spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { SHELLS, type Shell } from '../../src/commands/completion-scripts.js';
import { makeResultsFolder } from '../../src/files/atomic.js';
import { writePlan } from '../../src/results/sweep-folder.js';
import { plannedRun } from '../results/planned-run.js';
import { mod } from '../support/mod.js';
import { TINY_RUNS, TINY_SWEEP } from '../support/tiny-sweep.js';
import { waitUntil } from '../support/wait.js';

const folder = mkdtempSync(join(tmpdir(), 'mod-completion-'));
const RUN = '3e16-mod-c0.125-f2-d256l12-s0-learning_rate-4e-3';
beforeAll(() => {
  writeFileSync(join(folder, 'tiny.yaml'), TINY_SWEEP);
  writeFileSync(join(folder, 'tiny.txt'), 'no sweep file');
  mkdirSync(join(folder, 'folder'));
  const sweep = join(folder, 'results', 'study');
  makeResultsFolder(sweep);
  writePlan(sweep, { name: 'study', base_dir: folder, runs: [plannedRun(RUN)] });
});
afterAll(() => rmSync(folder, { recursive: true }));

/** What a user types before the tab key, and the line after it. */
const LINES: [typed: string, completed: string][] = [
  ['mod stat', 'mod status'],
  ['mod sweep --max-h', 'mod sweep --max-hours'],
  ['mod sweep --backend w', 'mod sweep --backend wasm'],
  ['mod sweep --backend=w', 'mod sweep --backend=wasm'],
  ['mod sweep ti', 'mod sweep tiny.yaml'],
  ['mod sweep tiny.yaml --only 3e8-m', `mod sweep tiny.yaml --only ${TINY_RUNS[1]}`],
  ['mod status study/3', `mod status study/${RUN}`],
  ['mod data info tiny.t', 'mod data info tiny.txt'],
  ['mod report --results fol', 'mod report --results folder/'],
];

const isInstalled = (shell: string) => spawnSync('which', [shell]).status === 0;

describe.each(SHELLS.filter((shell) => shell !== 'fish'))('%s', (shell) => {
  it.skipIf(!isInstalled(shell) || !isInstalled('script'))('completes a line after the tab key', async () => {
    const script = (await mod('completion', shell)).stdout;
    writeFileSync(join(folder, `mod.${shell}`), script);
    const terminal = new Terminal(shell);
    try {
      // The completed line is printed by a function of the program's name. Sourcing twice must be silent.
      terminal.type(`mod() { echo "<mod $*>"; }; . ./mod.${shell}; . ./mod.${shell}; echo re''ady\n`);
      await terminal.shows('ready');
      expect(terminal.text).not.toMatch(/error|not found|readonly|denied/i);
      for (const [typed, completed] of LINES) {
        terminal.type(`${typed}\t`);
        await terminal.shows(completed.slice(typed.length).replace(/\/$/, ''));
        terminal.type('\n');
        await terminal.shows(`<${completed.replace(/\/$/, '')}`);
      }
    } finally {
      terminal.close();
    }
  });
});

it.skipIf(!isInstalled('fish'))('fish completes a line', async () => {
  writeFileSync(join(folder, 'mod.fish'), (await mod('completion', 'fish')).stdout);
  const lines = LINES.map(([typed]) => `complete -C '${typed}' | head -1 | cut -f1`);
  const { stdout, stderr } = spawnSync(
    'fish',
    ['--no-config', '-c', ['source mod.fish', 'source mod.fish', ...lines].join('\n')],
    { cwd: folder, encoding: 'utf8' },
  );
  expect(stderr).toBe('');
  expect(stdout.split('\n').slice(0, -1)).toEqual(LINES.map(([, completed]) => completed.split(' ').at(-1)));
});

it('mod complete prints nothing but candidates, whatever is on the line', async () => {
  const complete = async (...words: string[]) => (await mod('complete', 'bash', '--', ...words)).stdout;
  expect(await complete('sweep', 'nothing.yaml', '--only', '')).toBe('none\n');
  expect(await complete('unknown', 'words', '')).toBe('none\n');
  expect(await complete('--')).toContain('--debug\tprint stack traces');
  expect(await complete('')).not.toMatch(/train-run|probe|complete\t/);
});

/** An interactive shell on a pseudo-terminal. */
class Terminal {
  text = '';
  private readonly child: ChildProcessWithoutNullStreams;

  constructor(shell: Shell) {
    const command = shell === 'bash' ? 'bash --norc --noprofile -i' : 'zsh -f -i';
    const env = { ...process.env, TERM: 'xterm', HOME: folder, COLUMNS: '200' };
    this.child = spawn('script', ['-qc', command, '/dev/null'], { cwd: folder, env });
    this.child.stdout.on('data', (part) => {
      this.text += part;
    });
  }

  type(text: string): void {
    this.text = '';
    this.child.stdin.write(text);
  }

  /** Waits until the text since the last input contains this. */
  async shows(text: string): Promise<void> {
    await waitUntil(`the terminal shows ${JSON.stringify(text)}`, () => this.text.includes(text), 60);
  }

  close(): void {
    this.child.kill();
  }
}
