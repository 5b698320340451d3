/** The command line itself: help with examples, exit codes, errors of one line. */
import { expect, it } from 'vitest';
import { mod } from './support/mod.js';

it.each(['plan', 'sweep', 'eval', 'bench'])('mod %s --help has an example', async (command) => {
  const { code, stdout } = await mod(command, '--help');
  expect(code).toBe(0);
  expect(stdout).toMatch(new RegExp(`Example:\\n +\\$ mod ${command} `));
});

it.each([
  ['an unknown command', ['swepe'], /unknown command 'swepe'/],
  ['an unknown option', ['plan', 'a.yaml', '--jsno'], /unknown option '--jsno'\n\(Did you mean --json\?\)/],
  ['a file that is not there', ['plan', 'nothing.yaml'], /^mod: nothing\.yaml: cannot be read/],
  ['a number that is none', ['sweep', 'a.yaml', '--jobs', 'many'], /a whole number above 0 is needed/],
  ['a shape that is none', ['bench', '--shape', 'x3'], /^mod: --shape x3: /],
])('%s ends with code 2 and no stack trace', async (_, args, message) => {
  const { code, stderr } = await mod(...args);
  expect(code).toBe(2);
  expect(stderr).toMatch(message);
  expect(stderr).not.toMatch(/\n +at /);
});

it('--debug prints the stack trace', async () => {
  expect((await mod('--debug', 'plan', 'nothing.yaml')).stderr).toMatch(/\n +at /);
});
