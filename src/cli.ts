/** The commander program: which commands there are, and what they take. */
import { availableParallelism } from 'node:os';
import { resolve } from 'node:path';
import tab from '@bomb.sh/tab/commander';
import { Command, CommanderError, Help, Option } from 'commander';
import {
  backendOption,
  bareTokenBytes,
  hours,
  jobs,
  jsonOption,
  notNegative,
  precisionOption,
  probability,
  resultsOption,
  shard,
  share,
  TARGET,
  wholeNumber,
  wholeOrZero,
} from './cli-options.js';
import { analyzeCommand } from './commands/analyze.js';
import { benchCommand, DEFAULT_SHAPES } from './commands/bench.js';
import { dataInfoCommand } from './commands/data-info.js';
import { dataPrepareCommand } from './commands/data-prepare.js';
import { doctorCommand } from './commands/doctor.js';
import { evalCommand } from './commands/eval.js';
import { exportCommand } from './commands/export.js';
import { generateCommand } from './commands/generate.js';
import { planCommand } from './commands/plan.js';
import { probeCommand } from './commands/probe.js';
import { statusCommand } from './commands/status.js';
import { sweepCommand } from './commands/sweep.js';
import { sweepSlurmCommand } from './commands/sweep-slurm.js';
import { thinCommand } from './commands/thin.js';
import { trainRunCommand } from './commands/train-run.js';
import { DEFAULT_PART_BYTES } from './data/prepare.js';
import { InputError, messageOf, TryLaterError } from './errors.js';
import { EXIT, exitCodeOf, exitCodeOfRun, exitCodeOfStop, exitCodeOfSweep } from './exit-codes.js';
import { CAUSAL_MODES, ROUTING_MODES } from './model/config.js';
import { programVersion } from './results/provenance.js';
import { signalExitCode } from './run/stop-request.js';

const print = (text: string) => process.stdout.write(`${text}\n`);
const printError = (text: string) => process.stderr.write(`mod: ${text}\n`);

const note = (text: string) => process.stderr.write(`${text}\n`);

/** Whether the command goes on when its output takes no more: it may have hours behind it, and its results are in files. */
const output = { canBeLost: false };

/**
 * A reader that has gone, as `head` goes, ends a command as SIGPIPE ends other programs: with its code, and silently. A full
 * disk is an error. Neither costs a sweep that has hours behind it.
 */
function watchOutput(): void {
  process.stderr.on('error', () => undefined);
  process.stdout.on('error', (error: NodeJS.ErrnoException) => {
    if (output.canBeLost) return;
    if (error.code === 'EPIPE') process.exit(signalExitCode('SIGPIPE'));
    printError(messageOf(error));
    process.exit(EXIT.failed);
  });
}

function program(): Command {
  const mod = new Command('mod')
    .description('isoFLOP experiments for Mixture-of-Depths transformers')
    .version(programVersion())
    .option('--debug', 'print stack traces')
    .exitOverride()
    .configureHelp({ showGlobalOptions: true, optionDescription });
  const longRunning = new Set(['sweep', 'train-run', 'eval', 'prepare']);
  mod.hook('preAction', (_, command) => {
    output.canBeLost = longRunning.has(command.name());
  });
  for (const add of [
    addPlan,
    addSweep,
    addStatus,
    addEval,
    addAnalyze,
    addGenerate,
    addReport,
    addExport,
    addThin,
    addData,
    addBench,
    addDoctor,
    addTrainRun,
    addProbe,
  ])
    add(mod);
  tab(mod, { completionCommandName: 'completion' });
  return mod;
}

/** That a switch is off and a list empty unless they are given needs no saying. */
function optionDescription(option: Option): string {
  return new Help().optionDescription(option).replace(/ ?\(default: (false|\[\]|"")\)/, '');
}

function addPlan(mod: Command): void {
  mod
    .command('plan')
    .description(
      'show the runs that a sweep file asks for, with their tokens, disk and hours; trains nothing',
    )
    .argument('<config>', 'sweep file, YAML')
    .option(
      '--match-flops <baseline>',
      'in place of the sizes the one nearest in FLOPs per pass to a shape, or to the optimal baseline of a finished sweep',
    )
    .addOption(resultsOption())
    .addOption(jsonOption())
    .addHelpText('after', '\nExample:\n  $ mod plan configs/quick.yaml')
    .action((config, options) => planCommand(config, options, print));
}

function addSweep(mod: Command): void {
  mod
    .command('sweep')
    .description('train the runs of a sweep file that are not done')
    .argument('<config>', 'sweep file, YAML')
    .option('--only <run...>', 'train these runs alone, without the sweep’s lock', [])
    .addOption(
      new Option(
        '--shard <I/N>',
        'train one of N parts of equal cost, I from 0, without the sweep’s lock: I/N, e.g. 0/4',
      )
        .argParser(shard)
        .conflicts('only'),
    )
    .addOption(
      // What a Slurm task says of the runs that it was submitted for.
      new Option('--config-hash <hash...>', 'of --only, in its order: train none that is another by now')
        .default([])
        .hideHelp(),
    )
    .option(
      '--jobs <n>',
      'runs that train side by side; auto: one a GPU, or one a core on wasm',
      jobs,
      'auto',
    )
    .addOption(
      new Option('--slurm', 'submit a job array, a task for each run that is neither done nor queued')
        .default(false)
        .conflicts(['shard', 'jobs', 'maxHours', 'configHash']),
    )
    .option('--sbatch <options>', 'of --slurm: options for sbatch, in one word', '')
    .option('--concurrency <n>', 'of --slurm: tasks that run at a time', wholeNumber)
    .option('--dry-run', 'of --slurm: print the scripts, submit nothing', false)
    .option('--retry', 'train diverged runs again from the start, as the file says now', false)
    .option('--max-hours <hours>', 'after so long save, stop and exit with 75', hours)
    .option('--quiet', 'print nothing unless something fails', false)
    .addOption(resultsOption())
    .addOption(backendOption())
    .addOption(precisionOption())
    .addHelpText(
      'after',
      '\nStarted again, it goes on with what is not done.\n\nExample:\n  $ mod sweep configs/quick.yaml\n  $ mod sweep configs/6e18.yaml --slurm --sbatch "--partition=gpu --gres=gpu:1 --time=24:00:00"',
    )
    .action(async (config, { results, configHash, slurm, sbatch, concurrency, dryRun, ...given }) => {
      const program = process.argv[1] as string;
      const options = { ...given, resultsDir: results, configHashes: configHash };
      try {
        if (slurm) {
          const command = [process.execPath, resolve(program)];
          const submission = { ...options, command, sbatch, concurrency, dryRun };
          const { failed } = await sweepSlurmCommand(config, submission, print, printError);
          if (failed.length > 0) process.exitCode = EXIT.failed;
          return;
        }
        if (sbatch !== '' || concurrency !== undefined || dryRun) {
          throw new InputError('--sbatch, --concurrency and --dry-run are for --slurm: add it');
        }
        const io = { out: process.stdout, program };
        process.exitCode = exitCodeOfSweep(await sweepCommand(config, { ...options, ...io }, printError));
      } catch (error) {
        // Cron sends a mail for every line: that another start holds the sweep is said by the code alone.
        if (!options.quiet || !(error instanceof TryLaterError)) throw error;
        process.exitCode = EXIT.tryLater;
      }
    });
}

function addStatus(mod: Command): void {
  mod
    .command('status')
    .description(
      'the runs of a sweep as they are now, from the files and, where it was submitted, from Slurm',
    )
    .argument('[target]', TARGET)
    .option('--watch', 'again and again until nothing trains', false)
    .addOption(resultsOption())
    .addOption(jsonOption())
    .addHelpText('after', '\nExample:\n  $ mod status results/quick --watch')
    .action((target, options) => statusCommand(target, options, process.stdout));
}

function addEval(mod: Command): void {
  mod
    .command('eval')
    .description('held-out loss of runs that are done, or of a checkpoint')
    .argument('[target]', TARGET)
    .addOption(
      new Option('--autoregressive', 'also as in sampling: by the predictor, or by the threshold')
        .default(false)
        .conflicts('routing'),
    )
    .addOption(new Option('--routing <mode>', 'in this mode').choices(ROUTING_MODES))
    .option('--sequences <n>', 'evaluate on at most so many', wholeNumber)
    .option('--checkpoint <dir>', 'a checkpoint’s folder, or a run’s, in place of a target')
    .option('--tokens <file>', 'the tokens for --checkpoint: an llm.c shard, or bare tokens')
    .addOption(new Option('--token-bytes <n>', 'bytes of a bare token').choices(['1', '2']).default('2'))
    .addOption(resultsOption())
    .addOption(jsonOption())
    .addOption(backendOption())
    .addOption(precisionOption())
    .addHelpText('after', '\nExample:\n  $ mod eval results/quick --autoregressive')
    .action((target, { tokenBytes, ...options }) =>
      evalCommand(target, { ...options, tokenBytes: tokenBytes === '1' ? 1 : 2 }, print, note),
    );
}

function addAnalyze(mod: Command): void {
  mod
    .command('analyze')
    .description('which tokens go through which routed blocks of a run, and how hard they are')
    .argument('<run>', 'a run, by folder or as SWEEP/RUN')
    .option('--sequences <n>', 'held-out sequences to analyse', wholeNumber, 64)
    .option('--heatmaps <n>', 'of these, to keep token by token', wholeNumber, 4)
    .addOption(new Option('--routing <mode>', 'in this mode').choices(ROUTING_MODES).default('topk'))
    .addOption(resultsOption())
    .addOption(jsonOption())
    .addOption(backendOption())
    .addOption(precisionOption())
    .addHelpText('after', '\nExample:\n  $ mod analyze quick/1.1e11-mod-c0.125-f2-d64l4-s0')
    .action((run, options) => analyzeCommand(run, options, print));
}

function addGenerate(mod: Command): void {
  mod
    .command('generate')
    .description('continue prompts with a checkpoint')
    .argument('<checkpoint>', 'a checkpoint’s folder, or a run, by folder or as SWEEP/RUN')
    .requiredOption('--prompt <text...>', 'required: what to continue; several are decoded side by side')
    .option('--tokens <n>', 'new tokens', wholeNumber, 64)
    .option('--temperature <t>', '0: always the likeliest token', notNegative, 1)
    .option('--top-p <p>', 'draw from the likeliest tokens that together reach this', probability, 1)
    .option('--seed <n>', 'of the draws', wholeOrZero, 0)
    .addOption(new Option('--routing <mode>', 'default: predictor where there is one').choices(CAUSAL_MODES))
    .option('--tokenizer <name>', 'bytes, gpt2 or a tokenizer.json, in place of the checkpoint’s own')
    .addOption(resultsOption())
    .addOption(jsonOption())
    .addOption(backendOption())
    .addOption(precisionOption())
    .addHelpText(
      'after',
      '\nExample:\n  $ mod generate results/quick/1.1e11-mod-c0.125-f2-d64l4-s0 --prompt "function " --tokens 100',
    )
    .action((checkpoint, options) =>
      generateCommand(checkpoint, options, { out: (text) => process.stdout.write(text), err: note }),
    );
}

function addReport(mod: Command): void {
  mod
    .command('report')
    .description('fits, figures and the paper’s claims as a page, from what sweeps have left; trains nothing')
    .argument('[target...]', `${TARGET}; several sweeps make one report`)
    .option('--out <dir>', 'folder of the report; left out: report/ in the sweep’s folder')
    .option('--watch', 'anew when a run ends, until nothing trains', false)
    .addOption(resultsOption())
    .addOption(jsonOption())
    .addHelpText('after', '\nExample:\n  $ mod report results/6e18 results/2e19')
    .action(async (targets, options) => {
      // Loaded when it is asked for: the drawing libraries take a fifth of a second.
      const { reportCommand } = await import('./commands/report.js');
      await reportCommand(targets, options, print);
    });
}

function addExport(mod: Command): void {
  mod
    .command('export')
    .description(
      'the curves of runs for other tools: TensorBoard’s event files, or the files of Weights & Biases',
    )
    .argument('[target]', TARGET)
    .addOption(
      new Option('--format <name>', 'required: for which tool')
        .choices(['tensorboard', 'wandb'])
        .makeOptionMandatory(),
    )
    .option(
      '--out <dir>',
      'folder to write to; left out: export/tensorboard/ or export/wandb/ in the sweep’s folder',
    )
    .addOption(resultsOption())
    .addHelpText(
      'after',
      '\nExample:\n  $ mod export results/quick --format tensorboard && tensorboard --logdir results/quick/export',
    )
    .action((target, options) => exportCommand(target, options, print));
}

function addThin(mod: Command): void {
  mod
    .command('thin')
    .description(
      'make finished runs small enough for git: steps.csv as means over 48 parts of the run. The rows before are lost',
    )
    .argument('<target>', 'a sweep, or one run of it')
    .addOption(resultsOption())
    .addHelpText('after', '\nExample:\n  $ mod thin results/6e18')
    .action((target, options) => thinCommand(target, options, print));
}

function addBench(mod: Command): void {
  mod
    .command('bench')
    .description(
      'time training steps on this machine, beside the rate of the backend’s own plain product; or decoding, or memory',
    )
    .option('--shape <shape...>', `shapes to time (default: ${DEFAULT_SHAPES.join(' ')})`, [])
    .option('--steps <n>', 'steps to take the median of', wholeNumber, 9)
    .option('--profile', 'the share of a step in each op', false)
    .addOption(
      new Option(
        '--decode',
        'time decoding in place of training; routed blocks take their capacity’s share of the tokens',
      )
        .default(false)
        .conflicts('memory'),
    )
    .option('--prompt <n>', 'of --decode: tokens of the prompt', wholeNumber, 512)
    .option('--tokens <n>', 'of --decode: new tokens', wholeNumber, 256)
    .option(
      '--memory',
      'compare the memory of dense shapes with routed ones of their size and of their FLOPs',
      false,
    )
    .addOption(jsonOption())
    .addOption(backendOption())
    .addOption(precisionOption())
    .addHelpText(
      'after',
      '\nA shape: d width, l layers, t sequence, b batch, v vocabulary; c capacity f frequency for a routed one;\ne experts x capacity factor n no-ops for experts.\nmod plan tells hours by what was measured here.\n\nExample:\n  $ mod bench --shape d320l8t1024b16v256 d320l8t1024b16v256c0.125f2 --profile',
    )
    .action((options) => benchCommand(options, print));
}

function addDoctor(mod: Command): void {
  mod
    .command('doctor')
    .description('what this machine has, which backends work on it, and what to install for the others')
    .addOption(resultsOption())
    .addOption(jsonOption())
    .addHelpText('after', '\nExample:\n  $ mod doctor --json')
    .action((options) => doctorCommand(options, print));
}

function addData(mod: Command): void {
  const data = mod.command('data').description('make token files of text, and look into them');
  data
    .command('prepare')
    .description(
      'text or JSONL, also gzip or zstd, into token shards with a held-out part; goes on after a kill',
    )
    .argument('<file...>', 'files or globs: .jsonl and .json are JSON Lines, others text')
    .requiredOption('--out <folder>', 'required: where the shards go')
    .option('--tokenizer <name>', 'bytes, gpt2, or the path of a tokenizer.json', 'gpt2')
    .option('--end-of-text <token>', 'the token behind every document (default: the usual one)')
    .option('--field <name>', 'the field of JSONL that holds the text', 'text')
    .option('--separator <text>', 'what stands between documents in text, \\n, \\t and \\0 written so')
    .option('--heldout-share <share>', 'share of the documents that is held out', share, 0.01)
    .option('--seed <n>', 'another one holds out other documents', wholeOrZero, 0)
    .option('--part-bytes <n>', 'input that a thread takes at a time', wholeNumber, DEFAULT_PART_BYTES)
    .option('--jobs <n>', 'threads', wholeNumber, availableParallelism())
    .addOption(jsonOption())
    .option('--quiet', 'no progress', false)
    .addHelpText(
      'after',
      '\nExample:\n  $ mod data prepare c4/*.json.gz --out data\n  $ mod data prepare book.txt --separator "\\n\\n" --tokenizer bytes --out data',
    )
    .action((files, options) => dataPrepareCommand(files, options, print));
  data
    .command('info')
    .description('what files hold: format, tokens, vocabulary in use, the text of the first tokens')
    .argument('<file...>', 'files or globs')
    .option('--tokenizer <name>', 'bytes, gpt2, or a tokenizer.json (default: what lies beside the file)')
    .option('--field <name>', 'the field of JSONL that holds the text', 'text')
    .option('--token-bytes <n>', 'bytes a token, for token files without a header', bareTokenBytes, 2)
    .addOption(jsonOption())
    .addHelpText('after', '\nExample:\n  $ mod data info data/train-*.bin')
    .action((files, options) => dataInfoCommand(files, options, print));
}

function addTrainRun(mod: Command): void {
  mod
    .command('train-run', { hidden: true })
    .argument('<sweep>')
    .argument('<run>')
    .addOption(
      new Option('--config-hash <hash>', 'of the run as it was planned').makeOptionMandatory().hideHelp(),
    )
    .addOption(new Option('--base-dir <dir>', 'the sweep file’s folder').makeOptionMandatory().hideHelp())
    .addOption(backendOption())
    .addOption(precisionOption())
    .action(async (sweep, run, options) => {
      const { end, stoppedBy } = await trainRunCommand(sweep, run, options, print);
      process.exitCode = stoppedBy === null ? exitCodeOfRun(end) : exitCodeOfStop(stoppedBy);
    });
}

function addProbe(mod: Command): void {
  mod
    .command('probe', { hidden: true })
    .addOption(backendOption())
    .addOption(precisionOption())
    .action((options) => probeCommand(options, print));
}

/** Runs one command and sets the exit code; errors are one line for the reader, a stack trace under --debug. */
export async function main(argv: string[]): Promise<void> {
  process.exitCode = EXIT.done;
  watchOutput();
  const mod = program();
  try {
    await mod.parseAsync(argv);
  } catch (error) {
    process.exitCode = exitCodeOf(error);
    if (error instanceof CommanderError) return; // commander has said it
    printError(messageOf(error));
    if (mod.opts().debug && error instanceof Error) process.stderr.write(`${error.stack}\n`);
  }
}
