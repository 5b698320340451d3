/** The command line: help texts with examples, exit codes, one-line errors. */
import { expect, it } from 'vitest';
import { mod, startMod } from './support/mod.js';

it.each([
  'plan',
  'sweep',
  'tune',
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
  ['a missing file', ['plan', 'nothing.yaml'], /^mod: nothing\.yaml: cannot be read/],
  ['an invalid number', ['sweep', 'a.yaml', '--jobs', 'many'], /Expected a whole number above 0/],
  ['an invalid share', ['data', 'prepare', 'a', '--out', 'b', '--heldout-share', '1'], /between 0 and 1/],
  ['a missing text file', ['data', 'info', 'nothing.txt'], /^mod: no file matches 'nothing\.txt'/],
  [
    'one routing mode and all modes',
    ['eval', '--autoregressive', '--routing', 'topk'],
    /option '--autoregressive' cannot be used with option '--routing <mode>'/,
  ],
  ['an invalid shape', ['bench', '--shape', 'x3'], /^mod: --shape x3: /],
])('%s exits with code 2 and no stack trace', async (_, args, message) => {
  const { code, stderr } = await mod(...args);
  expect(code).toBe(2);
  expect(stderr).toMatch(message);
  expect(stderr).not.toMatch(/\n +at /);
});

it('mod export --help names the default output folder', async () => {
  const { stdout } = await mod('export', '--help');
  expect(stdout.replaceAll(/\s+/g, ' ')).toContain('default: export/tensorboard/ or export/wandb/ in the');
});

it.each([
  ['sweep', /part I, from 0, of N parts of equal cost, e\.g\. 0\/4/],
  ['bench', /d width, l layers, t sequence length, b batch size, v vocabulary;/],
  ['eval', /also evaluate with causal routing, as in sampling/],
  ['generate', /required: text to continue/],
  ['export', /required: file format/],
  ['train-run', /backend to compute on/],
])(
  'mod %s --help explains its options, without empty defaults and internal options',
  async (command, text) => {
    const stdout = (await mod(command, '--help')).stdout.replaceAll(/\s+/g, ' ');
    expect(stdout).toMatch(text);
    expect(stdout).not.toMatch(/default: (false|\[\]|"")|--config-hash|--base-dir/);
  },
);

it('a command whose output is closed ends silently, like other programs before head', async () => {
  const { child, ended } = startMod(['plan', 'configs/6e18.yaml', '--json']);
  child.stdout?.destroy();
  expect(await ended).toMatchObject({ code: 141, stderr: '' });
});

it('--debug prints the stack trace', async () => {
  expect((await mod('--debug', 'plan', 'nothing.yaml')).stderr).toMatch(/\n +at /);
});

it('mod doctor lists usable backends, and reasons for the others; wasm is always usable', async () => {
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
