/** The commander program: which commands there are, what they take, and the only place that decides exit codes. */
import { availableParallelism } from 'node:os';
import { Command, CommanderError, InvalidArgumentError, Option } from 'commander';
import { benchCommand, DEFAULT_SHAPES } from './commands/bench.js';
import { dataInfoCommand } from './commands/data-info.js';
import { dataPrepareCommand } from './commands/data-prepare.js';
import { planCommand } from './commands/plan.js';
import { DEFAULT_PART_BYTES } from './data/prepare.js';
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

function seedNumber(text: string): number {
  const value = Number(text);
  if (!Number.isInteger(value) || value < 0)
    throw new InvalidArgumentError('a whole number of at least 0 is needed.');
  return value;
}

function share(text: string): number {
  const value = Number(text);
  if (!(value > 0 && value < 1)) throw new InvalidArgumentError('a number between 0 and 1 is needed.');
  return value;
}

function bareTokenBytes(text: string): 1 | 2 {
  if (text !== '1' && text !== '2') throw new InvalidArgumentError('1 or 2 is needed.');
  return text === '1' ? 1 : 2;
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

  const data = mod.command('data').description('make token files of text, and look into them');
  data
    .command('prepare')
    .description(
      'text or JSONL, also gzip or zstd, into token shards with a held-out part; goes on after a kill',
    )
    .argument('<file...>', 'files or globs: .jsonl and .json are JSON Lines, others text')
    .requiredOption('--out <folder>', 'where the shards go')
    .option('--tokenizer <name>', 'bytes, gpt2, or the path of a tokenizer.json', 'gpt2')
    .option('--end-of-text <token>', 'the token behind every document (default: the usual one)')
    .option('--field <name>', 'the field of JSONL that holds the text', 'text')
    .option('--separator <text>', 'what stands between documents in text, \\n, \\t and \\0 written so')
    .option('--heldout-share <share>', 'share of the documents that is held out', share, 0.01)
    .option('--seed <n>', 'another one holds out other documents', seedNumber, 0)
    .option('--part-bytes <n>', 'input that a thread takes at a time', wholeNumber, DEFAULT_PART_BYTES)
    .option('--jobs <n>', 'threads', wholeNumber, availableParallelism())
    .option('--json', 'print JSON', false)
    .option('--quiet', 'no progress', false)
    .addHelpText(
      'after',
      '\nExamples:\n  $ mod data prepare c4/*.json.gz --out data\n  $ mod data prepare book.txt --separator "\\n\\n" --tokenizer bytes --out data',
    )
    .action((files, options) => dataPrepareCommand(files, options, print));
  data
    .command('info')
    .description('what files hold: format, tokens, vocabulary in use, the text of the first tokens')
    .argument('<file...>', 'files or globs')
    .option('--tokenizer <name>', 'bytes, gpt2, or a tokenizer.json (default: what lies beside the file)')
    .option('--field <name>', 'the field of JSONL that holds the text', 'text')
    .option('--token-bytes <n>', 'bytes a token, for token files without a header', bareTokenBytes, 2)
    .option('--json', 'print JSON', false)
    .addHelpText('after', '\nExample:\n  $ mod data info data/train-*.bin')
    .action((files, options) => dataInfoCommand(files, options, print));

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
