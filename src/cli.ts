/** The commander program: which commands there are, what they take, and the only place that decides exit codes. */
import { Command, CommanderError, InvalidArgumentError, Option } from 'commander';
import { benchCommand, DEFAULT_SHAPES } from './commands/bench.js';
import { planCommand } from './commands/plan.js';
import { InputError, messageOf, TryLaterError } from './errors.js';

/** Section 7 of the design: what cron, make and people may rely on. */
const EXIT = { done: 0, failed: 1, wrongInput: 2, tryLater: 75 } as const;

const print = (text: string) => process.stdout.write(`${text}\n`);

function wholeNumber(text: string): number {
  const value = Number(text);
  if (!Number.isInteger(value) || value < 1)
    throw new InvalidArgumentError('a whole number above 0 is needed.');
  return value;
}

const backendOption = () =>
  new Option('--backend <name>', 'what computes')
    .choices(['auto', 'cuda', 'tensorflow', 'wasm'])
    .default('auto');
const precisionOption = () =>
  new Option('--precision <name>', 'numbers of the matrix products')
    .choices(['auto', 'fp32', 'bf16'])
    .default('auto');

function program(setFailed: () => void): Command {
  const mod = new Command('mod')
    .description('isoFLOP experiments for Mixture-of-Depths transformers')
    .option('--debug', 'print stack traces')
    .exitOverride()
    .configureHelp({ showGlobalOptions: true });
  void setFailed;

  mod
    .command('bench')
    .description('time training steps on this machine, beside the rate of the backend’s own plain product')
    .option('--shape <shape...>', `shapes to time (default: ${DEFAULT_SHAPES.join(' ')})`, [])
    .option('--steps <n>', 'steps to take the median of', wholeNumber, 9)
    .option('--profile', 'the share of a step in each op', false)
    .option('--json', 'print JSON', false)
    .addOption(backendOption())
    .addOption(precisionOption())
    .addHelpText(
      'after',
      '\nExample:\n  $ mod bench --shape d320l8t1024b16v256 d320l8t1024b16v256c0.125f2 --profile',
    )
    .action((options) => benchCommand(options, print));

  mod
    .command('plan')
    .description('what a sweep file asks for: runs, tokens, disk and hours, before anything is trained')
    .argument('<config>', 'the sweep file')
    .option('--json', 'print JSON', false)
    .addHelpText('after', '\nExample:\n  $ mod plan configs/quick.yaml')
    .action((config, options) => planCommand(config, options, print));

  return mod;
}

/** Runs one command and sets the exit code; errors are one line for the reader, a stack trace under --debug. */
export async function main(argv: string[]): Promise<void> {
  process.exitCode = EXIT.done;
  const mod = program(() => {
    process.exitCode = EXIT.failed;
  });
  try {
    await mod.parseAsync(argv);
  } catch (error) {
    process.exitCode = exitCodeOf(error);
    if (error instanceof CommanderError) return; // commander has said it
    process.stderr.write(`mod: ${messageOf(error)}\n`);
    if (mod.opts().debug && error instanceof Error) process.stderr.write(`${error.stack}\n`);
  }
}

function exitCodeOf(error: unknown): number {
  if (error instanceof CommanderError) return error.exitCode === 0 ? EXIT.done : EXIT.wrongInput;
  if (error instanceof InputError) return EXIT.wrongInput;
  if (error instanceof TryLaterError) return EXIT.tryLater;
  return EXIT.failed;
}
