/** The command line itself: help with examples, exit codes, errors of one line. */
import { expect, it } from 'vitest';
import { mod, startMod } from './support/mod.js';

it.each([
  'plan',
  'sweep',
  'status',
  'eval',
  'report',
  'export',
  'thin',
  'data prepare',
  'data info',
  'bench',
  'doctor',
])('mod %s --help has an example', async (command) => {
  const { code, stdout } = await mod(...command.split(' '), '--help');
  expect(code).toBe(0);
  expect(stdout).toMatch(new RegExp(`Example:\\n +\\$ mod ${command} `));
});

it.each([
  ['an unknown command', ['swepe'], /unknown command 'swepe'\n\(Did you mean sweep\?\)/],
  ['an unknown option', ['plan', 'a.yaml', '--jsno'], /unknown option '--jsno'\n\(Did you mean --json\?\)/],
  ['a file that is not there', ['plan', 'nothing.yaml'], /^mod: nothing\.yaml: cannot be read/],
  ['a number that is none', ['sweep', 'a.yaml', '--jobs', 'many'], /a whole number above 0 is needed/],
  ['a share that is none', ['data', 'prepare', 'a', '--out', 'b', '--heldout-share', '1'], /between 0 and 1/],
  ['text that is not there', ['data', 'info', 'nothing.txt'], /^mod: no file matches 'nothing\.txt'/],
  [
    'one routing mode and all of them',
    ['eval', '--autoregressive', '--routing', 'topk'],
    /option '--autoregressive' cannot be used with option '--routing <mode>'/,
  ],
  ['a shape that is none', ['bench', '--shape', 'x3'], /^mod: --shape x3: /],
])('%s ends with code 2 and no stack trace', async (_, args, message) => {
  const { code, stderr } = await mod(...args);
  expect(code).toBe(2);
  expect(stderr).toMatch(message);
  expect(stderr).not.toMatch(/\n +at /);
});

it('mod export --help says which folder is written to', async () => {
  const { stdout } = await mod('export', '--help');
  expect(stdout.replaceAll(/\s+/g, ' ')).toContain('left out: export/tensorboard/ or export/wandb/ in the');
});

it.each([
  ['sweep', /I\/N, e\.g\. 0\/4/],
  ['bench', /d width, l layers, t sequence, b batch, v vocabulary; c capacity f frequency/],
  ['eval', /also as in sampling/],
  ['generate', /required: what to continue/],
  ['export', /required: for which tool/],
  ['train-run', /where to compute/],
])(
  'mod %s --help says what is needed, and no default of nothing nor what is internal',
  async (command, says) => {
    const stdout = (await mod(command, '--help')).stdout.replaceAll(/\s+/g, ' ');
    expect(stdout).toMatch(says);
    expect(stdout).not.toMatch(/default: (false|\[\]|"")|--config-hash|--base-dir/);
  },
);

it('a reader that has gone ends a command silently, as head ends others', async () => {
  const { child, ended } = startMod(['plan', 'configs/6e18.yaml', '--json']);
  child.stdout?.destroy();
  expect(await ended).toMatchObject({ code: 141, stderr: '' });
});

it('--debug prints the stack trace', async () => {
  expect((await mod('--debug', 'plan', 'nothing.yaml')).stderr).toMatch(/\n +at /);
});

it('mod doctor says what works here and why not the rest, and wasm always does', async () => {
  const { code, stdout } = await mod('doctor', '--json');
  expect(code).toBe(0);
  const { node, backends, machine, disk } = JSON.parse(stdout);
  expect(node).toMatchObject({ version: process.versions.node, needed: expect.stringContaining('20.19') });
  expect(backends.map(({ name }: { name: string }) => name)).toEqual(['cuda', 'tensorflow', 'wasm']);
  for (const { usable, device, reason } of backends) {
    expect(usable ? device : reason).toEqual(expect.any(String));
  }
  expect(backends[2].usable).toBe(true);
  expect(machine.cores).toBeGreaterThan(0);
  expect(disk.freeBytes).toBeGreaterThan(0);
  expect((await mod('doctor')).stdout).toMatch(/^mod .*\nNode .*\nprocessor /);
});

it.each(['bash', 'zsh'])('completes commands and choices in %s', async (shell) => {
  expect((await mod('completion', shell)).stdout).toContain(shell === 'zsh' ? '#compdef mod' : 'complete -F');
  expect((await mod('complete', '--', 'sweep', '--backend', '')).stdout).toMatch(/^wasm/m);
});
