/**
 * The command line, built with commander: every command with its arguments and options. A command is loaded when it runs: all of
 * them with their libraries would take half a second, also to print a help text or to complete a word.
 */
import { availableParallelism } from 'node:os';
import { resolve } from 'node:path';
import { Argument, Command, CommanderError, Help, Option } from 'commander';
import { DEFAULT_SHAPES } from './bench/shape.js';
import {
  backendOption,
  bareTokenBytes,
  jobs,
  jsonOption,
  nonNegative,
  nonNegativeInteger,
  positive,
  positiveInteger,
  precisionOption,
  probability,
  resultsOption,
  setOption,
  shard,
  share,
  TARGET,
  uncheckedOption,
} from './cli-options.js';
import { completionScript, SHELLS } from './commands/completion-scripts.js';
import { STATUS_ORDERS } from './commands/status-view.js';
import { isJournal, JOURNAL_PRIORITY, releaseLostTerminals } from './commands/terminal.js';
import { TEXT_FIELD } from './data/config.js';
import { DEFAULT_PART_BYTES } from './data/prepare.js';
import { InputError, messageOf, TryLaterError } from './errors.js';
import { EXIT, exitCodeOf, exitCodeOfRun, exitCodeOfStop, exitCodeOfSweep } from './exit-codes.js';
import { EXPORT_FORMATS } from './export/formats.js';
import { CAUSAL_MODES, ROUTING_MODES } from './model/config.js';
import { programVersion } from './results/provenance.js';
import { signalExitCode } from './run/stop-request.js';

const print = (text: string) => process.stdout.write(`${text}\n`);
/** Prints on standard error; in the systemd journal each line has a priority. */
const printNote = (text: string, priority: string = JOURNAL_PRIORITY.notice) =>
  process.stderr.write(`${isJournal(2) ? text.replace(/^/gm, priority) : text}\n`);
const printError = (text: string) => printNote(`mod: ${text}`, JOURNAL_PRIORITY.error);

/** Whether the command continues if its output fails: long-running commands also write their results to files. */
const output = { mayFail: false };

/**
 * Handles errors of the output. If the reader has exited, as `head` does, the command ends silently with the exit code of
 * SIGPIPE, as other programs do. A full disk is an error. Long-running commands ignore both.
 */
function handleOutputErrors(): void {
  process.stderr.on('error', () => undefined);
  process.stdout.on('error', (error: NodeJS.ErrnoException) => {
    if (output.mayFail) return;
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
  const longRunning = new Set(['sweep', 'tune', 'train-run', 'eval', 'prepare']);
  mod.hook('preAction', (_, command) => {
    output.mayFail = longRunning.has(command.name());
  });
  for (const add of [
    addInit,
    addPlan,
    addSweep,
    addTune,
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
    addCompletion,
  ])
    add(mod);
  return mod;
}

/** Omits the defaults of switches, which are off, and of lists, which are empty. */
function optionDescription(option: Option): string {
  return new Help().optionDescription(option).replace(/ ?\(default: (false|\[\]|"")\)/, '');
}

function addInit(mod: Command): void {
  mod
    .command('init')
    .description('write a sweep file that fits text or tokens and this machine')
    .argument('<data>', 'folder of text files, or of mod data prepare')
    .addOption(
      new Option('--budget <flops>', 'FLOPs of a run (default: those that fit the hours)').argParser(
        positive,
      ),
    )
    .option('--hours <hours>', 'hours of the whole sweep on this machine', positive, 1)
    .option('--out <file>', 'the sweep file (default: the name of the data with .yaml)')
    .option('--force', 'replace the file if it is there', false)
    .addOption(backendOption())
    .addOption(precisionOption())
    .addHelpText(
      'after',
      '\nMeasures a few training steps. The file is a start: edit it.\n\nExample:\n  $ mod init corpus --hours 8\n  $ mod plan corpus.yaml',
    )
    .action(async (data, options) => {
      const { initCommand } = await import('./commands/init.js');
      await initCommand(data, options, { out: print, err: printNote });
    });
}

function addPlan(mod: Command): void {
  mod
    .command('plan')
    .description('list the runs of a sweep file with their tokens, disk space and hours, without training')
    .argument('<config>', 'sweep file, YAML')
    .option(
      '--match-flops <baseline>',
      'replace the model sizes by the size nearest in FLOPs per pass to a shape, or to the optimal baseline of a finished sweep',
    )
    .addOption(setOption())
    .option('--wide', 'print all columns, also those that do not fit the terminal', false)
    .addOption(resultsOption())
    .addOption(jsonOption())
    .addHelpText(
      'after',
      '\nExample:\n  $ mod plan configs/quick.yaml\n  $ mod plan configs/quick.yaml --set flop_budgets=[1e12] --set seeds=[0,1]',
    )
    .action(async (config, options) => {
      const { planCommand } = await import('./commands/plan.js');
      await planCommand(config, options, print);
    });
}

function addSweep(mod: Command): void {
  mod
    .command('sweep')
    .description('train and evaluate the runs of a sweep file that are not done')
    .argument('<config>', 'sweep file, YAML')
    .addOption(setOption())
    .option('--only <run...>', 'train only these runs; locks the runs, not the sweep', [])
    .addOption(
      new Option(
        '--shard <I/N>',
        'train part I, from 0, of N parts of equal cost, e.g. 0/4; locks the runs, not the sweep',
      )
        .argParser(shard)
        .conflicts('only'),
    )
    .addOption(
      // Passed by Slurm tasks: the config hashes of the runs when they were submitted.
      new Option(
        '--config-hash <hash...>',
        'with --only: config hashes that the runs must have, in the same order',
      )
        .default([])
        .hideHelp(),
    )
    .option(
      '--jobs <n>',
      'runs to train in parallel; auto: one per GPU, or one per core on wasm',
      jobs,
      'auto',
    )
    .option('--share-gpus', 'with --jobs auto: also use GPUs on which other processes have memory', false)
    .addOption(
      new Option('--slurm', 'submit a job array with one task per run that is neither done nor queued')
        .default(false)
        .conflicts(['shard', 'jobs', 'maxHours', 'wholeRuns', 'configHash']),
    )
    .option('--sbatch <options>', 'with --slurm: options for sbatch, quoted as one argument', '')
    .option('--concurrency <n>', 'with --slurm: maximum number of tasks that run at a time', positiveInteger)
    .option('--dry-run', 'with --slurm: print the job scripts, submit nothing', false)
    .option('--retry', 'train diverged runs again from the start, with the current sweep file', false)
    .option(
      '--accept-diverged',
      'settle the runs that have diverged: they no longer count as failures',
      false,
    )
    .option('--max-hours <hours>', 'after this many hours save, stop and exit with code 75', positive)
    .option(
      '--whole-runs',
      'with --max-hours: start no run that cannot end in the time that is left, by the times of finished runs',
      false,
    )
    .option('--quiet', 'print only failures, each once: for cron', false)
    .addOption(resultsOption())
    .addOption(backendOption())
    .addOption(precisionOption())
    .addHelpText(
      'after',
      '\nRun it again to resume: finished runs are skipped, others continue\nfrom their last checkpoint.\n\nExample:\n  $ mod sweep configs/quick.yaml\n  $ mod sweep configs/6e18.yaml --slurm --sbatch "--partition=gpu --gres=gpu:1 --time=24:00:00"',
    )
    .action(async (config, { results, configHash, slurm, sbatch, concurrency, dryRun, ...given }) => {
      const program = process.argv[1] as string;
      const options = { ...given, resultsDir: results, configHashes: configHash };
      try {
        if (slurm) {
          const command = [process.execPath, resolve(program)];
          const submission = { ...options, command, sbatch, concurrency, dryRun };
          const { sweepSlurmCommand } = await import('./commands/sweep-slurm.js');
          const { failed } = await sweepSlurmCommand(config, submission, print, printError);
          if (failed.length > 0) process.exitCode = EXIT.failed;
          return;
        }
        if (sbatch !== '' || concurrency !== undefined || dryRun) {
          throw new InputError('--sbatch, --concurrency and --dry-run require --slurm');
        }
        if (options.wholeRuns && options.maxHours === undefined) {
          throw new InputError('--whole-runs requires --max-hours');
        }
        const { sweepCommand } = await import('./commands/sweep.js');
        const io = { out: process.stdout, times: !isJournal(1), program };
        process.exitCode = exitCodeOfSweep(await sweepCommand(config, { ...options, ...io }, printError));
      } catch (error) {
        // Cron mails every line: with --quiet, the exit code alone reports that another process holds the sweep.
        if (!options.quiet || !(error instanceof TryLaterError)) throw error;
        process.exitCode = EXIT.tryLater;
      }
    });
}

function addTune(mod: Command): void {
  mod
    .command('tune')
    .description(
      'find the learning rate of a sweep file: train its kinds of models at the base shape at several rates',
    )
    .argument('<config>', 'sweep file, YAML')
    .addOption(setOption())
    .option(
      '--rates <multiple...>',
      'multiples of the default rate (default: 0.5x 0.7x 1x 1.4x 2x); give earlier ones again, they are not trained again',
      [],
    )
    .option(
      '--budget <flops>',
      'FLOPs of each run (default: those of 20 tokens per parameter of the dense base shape)',
      positive,
    )
    .option(
      '--jobs <n>',
      'runs to train in parallel; auto: one per GPU, or one per core on wasm',
      jobs,
      'auto',
    )
    .option('--share-gpus', 'with --jobs auto: also use GPUs on which other processes have memory', false)
    .option('--max-hours <hours>', 'after this many hours save, stop and exit with code 75', positive)
    .option(
      '--whole-runs',
      'with --max-hours: start no run that cannot end in the time that is left, by the times of finished runs',
      false,
    )
    .addOption(resultsOption())
    .addOption(jsonOption())
    .addOption(backendOption())
    .addOption(precisionOption())
    .addHelpText(
      'after',
      '\nThe sweep NAME-tune is trained like any other: run the command again to resume.\n\nExample:\n  $ mod tune configs/6e18.yaml --set seeds=[0,1]',
    )
    .action(async (config, { results, rates, ...given }) => {
      if (given.wholeRuns && given.maxHours === undefined) {
        throw new InputError('--whole-runs requires --max-hours');
      }
      const { DEFAULT_RATES, tuneCommand } = await import('./commands/tune.js');
      const options = { ...given, resultsDir: results, rates: rates.length === 0 ? DEFAULT_RATES : rates };
      const io = { program: process.argv[1] as string, times: !isJournal(1), out: print, err: printError };
      process.exitCode = exitCodeOfSweep(await tuneCommand(config, options, io));
    });
}

function addStatus(mod: Command): void {
  mod
    .command('status')
    .description('show the progress of a sweep’s runs, from its files and, if it was submitted, from Slurm')
    .argument('[target]', TARGET)
    .option('--watch', 'update it until no run is training', false)
    .option('--failed', 'list only failed, diverged and out-of-memory runs', false)
    .option('--running', 'list only runs in training; with --failed both', false)
    .option('--filter <text>', 'list only runs whose id contains this text', '')
    .addOption(
      new Option(
        '--sort <order>',
        'order of the runs (default: plan, or status if they do not fit the terminal)',
      ).choices(Object.keys(STATUS_ORDERS)),
    )
    .option('--all', 'list all runs, also if they do not fit the terminal', false)
    .option('--orphans', 'list the run folders that the sweep file no longer contains', false)
    .addOption(resultsOption())
    .addOption(jsonOption())
    .addHelpText(
      'after',
      '\nExample:\n  $ mod status results/quick --watch\n  $ mod status 6e18 --failed --sort loss',
    )
    .action(async (target, options) => {
      const { statusCommand } = await import('./commands/status.js');
      await statusCommand(target, options, process.stdout);
    });
}

function addEval(mod: Command): void {
  mod
    .command('eval')
    .description('evaluate the held-out loss of finished runs, or of a checkpoint')
    .argument('[target]', TARGET)
    .addOption(
      new Option(
        '--autoregressive',
        'also evaluate with causal routing, as in sampling: predictor, quantile, threshold',
      )
        .default(false)
        .conflicts('routing'),
    )
    .addOption(new Option('--routing <mode>', 'evaluate in this routing mode only').choices(ROUTING_MODES))
    .option('--sequences <n>', 'maximum number of held-out sequences', positiveInteger)
    .option('--checkpoint <dir>', 'checkpoint folder, run folder or SWEEP/RUN, instead of a target')
    .option('--tokens <file>', 'with --checkpoint: token file, an llm.c shard or without a header')
    .option('--token-bytes <n>', 'bytes per token of a token file without a header', bareTokenBytes, 2)
    .addOption(uncheckedOption())
    .addOption(resultsOption())
    .addOption(jsonOption())
    .addOption(backendOption())
    .addOption(precisionOption())
    .addHelpText('after', '\nExample:\n  $ mod eval results/quick --autoregressive')
    .action(async (target, options) => {
      const { evalCommand } = await import('./commands/eval.js');
      await evalCommand(target, options, print, printNote);
    });
}

function addAnalyze(mod: Command): void {
  mod
    .command('analyze')
    .description('analyse which tokens each routed block of a run selects, and how hard they are to predict')
    .argument('<run>', 'run folder or SWEEP/RUN')
    .option('--sequences <n>', 'number of held-out sequences to analyse', positiveInteger, 64)
    .option('--heatmaps <n>', 'number of these to store token by token, as heatmaps', positiveInteger, 4)
    .addOption(new Option('--routing <mode>', 'routing mode').choices(ROUTING_MODES).default('topk'))
    .addOption(resultsOption())
    .addOption(jsonOption())
    .addOption(backendOption())
    .addOption(precisionOption())
    .addHelpText('after', '\nExample:\n  $ mod analyze quick/1.1e11-mod-c0.125-f2-d64l4-s0')
    .action(async (run, options) => {
      const { analyzeCommand } = await import('./commands/analyze.js');
      await analyzeCommand(run, options, print);
    });
}

function addGenerate(mod: Command): void {
  mod
    .command('generate')
    .description('continue prompts with a trained model')
    .argument('<checkpoint>', 'checkpoint folder, run folder or SWEEP/RUN; with --best a sweep')
    .option('--best', 'the run of the sweep with the lowest held-out loss', false)
    .requiredOption(
      '--prompt <text...>',
      'required: text to continue; several prompts are decoded as one batch',
    )
    .option('--tokens <n>', 'number of new tokens per prompt', positiveInteger, 64)
    .option('--temperature <t>', 'sampling temperature; 0: always the most likely token', nonNegative, 1)
    .option('--top-p <p>', 'sample from the most likely tokens with this total probability', probability, 1)
    .option('--seed <n>', 'seed of sampling', nonNegativeInteger, 0)
    .addOption(
      new Option('--routing <mode>', 'routing mode; by default predictor, if the model has one').choices(
        CAUSAL_MODES,
      ),
    )
    .option('--tokenizer <name>', 'bytes, gpt2 or a tokenizer.json, instead of the checkpoint’s own')
    .addOption(resultsOption())
    .addOption(jsonOption())
    .addOption(backendOption())
    .addOption(precisionOption())
    .addHelpText(
      'after',
      '\nExample:\n  $ mod generate results/quick/1.1e11-mod-c0.125-f2-d64l4-s0 --prompt "function " --tokens 100',
    )
    .action(async (checkpoint, options) => {
      const { generateCommand } = await import('./commands/generate.js');
      const io = { out: (text: string) => process.stdout.write(text), err: printNote };
      await generateCommand(checkpoint, options, io);
    });
}

function addReport(mod: Command): void {
  mod
    .command('report')
    .description(
      'write an HTML page with the fits and figures of sweeps and a verdict on each claim of the paper',
    )
    .argument('[target...]', `${TARGET}; several sweeps make one report`)
    .option(
      '--out <dir>',
      'folder of the report (default: report/ in the sweep’s folder, for several sweeps in --results)',
    )
    .option(
      '--predict <flops>',
      'also write a dated prediction of this budget, from the runs of smaller ones; later reports score it',
      positive,
    )
    .option('--watch', 'update it whenever a run starts, advances or ends, until no run is training', false)
    .option('--open', 'open the page in the default browser', false)
    .addOption(resultsOption())
    .addOption(jsonOption())
    .addHelpText(
      'after',
      '\nExample:\n  $ mod report results/6e18 results/2e19\n  $ mod report 6e18 --predict 2e19',
    )
    .action(async (targets, options) => {
      const { reportCommand } = await import('./commands/report.js');
      await reportCommand(targets, options, print);
    });
}

function addExport(mod: Command): void {
  mod
    .command('export')
    .description('export the curves of runs as files of TensorBoard or Weights & Biases')
    .argument('[target]', TARGET)
    .addOption(
      new Option('--format <name>', 'required: file format').choices(EXPORT_FORMATS).makeOptionMandatory(),
    )
    .option(
      '--out <dir>',
      `output folder (default: ${EXPORT_FORMATS.map((name) => `export/${name}/`).join(' or ')} in the sweep’s folder)`,
    )
    .addOption(resultsOption())
    .addHelpText(
      'after',
      '\nExample:\n  $ mod export results/quick --format tensorboard && tensorboard --logdir results/quick/export',
    )
    .action(async (target, options) => {
      const { exportCommand } = await import('./commands/export.js');
      await exportCommand(target, options, print);
    });
}

function addThin(mod: Command): void {
  mod
    .command('thin')
    .description(
      'make finished runs small enough for git: replace the rows of steps.csv by means over 48 parts of the run; the original rows are lost',
    )
    .argument('<target>', 'sweep or run, by folder or name')
    .addOption(resultsOption())
    .addHelpText('after', '\nExample:\n  $ mod thin results/6e18')
    .action(async (target, options) => {
      const { thinCommand } = await import('./commands/thin.js');
      await thinCommand(target, options, print);
    });
}

function addBench(mod: Command): void {
  mod
    .command('bench')
    .description(
      'time training steps on this machine and compare them with a plain matrix product; or measure decoding or memory',
    )
    .option('--shape <shape...>', `shapes to time (default: ${DEFAULT_SHAPES.join(' ')})`, [])
    .option(
      '--steps <n>',
      'number of timed steps, fewer if they take more than 30 s; the median is reported',
      positiveInteger,
      9,
    )
    .option('--profile', 'print the share of each op in the step time', false)
    .addOption(
      new Option(
        '--decode',
        'time decoding instead of training; routed blocks process their capacity’s share of the tokens',
      )
        .default(false)
        .conflicts('memory'),
    )
    .option('--prompt <n>', 'with --decode: tokens of the prompt', positiveInteger, 512)
    .option('--tokens <n>', 'with --decode: new tokens', positiveInteger, 256)
    .addOption(
      new Option(
        '--coordinates',
        'check that activations keep their size over widths and depths under both parametrizations; exit code 1 if not under complete',
      )
        .default(false)
        .conflicts(['shape', 'profile', 'decode', 'memory']),
    )
    .option(
      '--memory',
      'compare the memory of dense shapes with that of routed ones of equal size and of equal FLOPs',
      false,
    )
    .addOption(jsonOption())
    .addOption(backendOption())
    .addOption(precisionOption())
    .addHelpText(
      'after',
      '\nA shape names d width, l layers, t sequence length, b batch size, v vocabulary;\nfor routed blocks also c capacity, f frequency; for experts e experts,\nx capacity factor, n no-ops.\nmod plan estimates hours from the rates measured here.\n\nExample:\n  $ mod bench --shape d320l8t1024b16v256 d320l8t1024b16v256c0.125f2 --profile',
    )
    .action(async (options) => {
      const { benchCommand } = await import('./commands/bench.js');
      if (!(await benchCommand(options, print))) process.exitCode = EXIT.failed;
    });
}

function addDoctor(mod: Command): void {
  mod
    .command('doctor')
    .description(
      'show this machine’s hardware, which backends work on it, and what to install for the others',
    )
    .addOption(resultsOption())
    .addOption(jsonOption())
    .addHelpText('after', '\nExample:\n  $ mod doctor --json')
    .action(async (options) => {
      const { doctorCommand } = await import('./commands/doctor.js');
      await doctorCommand(options, print);
    });
}

function addData(mod: Command): void {
  const data = mod.command('data').description('make and inspect token files');
  data
    .command('prepare')
    .description(
      'convert text, JSON Lines or Parquet, also compressed, to token shards with a held-out split; run it again to resume',
    )
    .argument(
      '<file...>',
      'files, folders or globs of text, JSON Lines or Parquet, recognised by their content; - is standard input',
    )
    .requiredOption('--out <folder>', 'required: output folder')
    .option('--tokenizer <name>', 'bytes, gpt2, or the path of a tokenizer.json', 'gpt2')
    .option('--end-of-text <token>', 'token after every document (default: the tokenizer’s usual one)')
    .option('--field <name>', 'field of JSON Lines, or column of Parquet, that contains the text', TEXT_FIELD)
    .option('--separator <text>', 'string between the documents of a text file; \\n, \\t and \\0 are escapes')
    .option('--heldout-share <share>', 'share of the documents to hold out', share, 0.01)
    .option('--seed <n>', 'seed that selects the held-out documents', nonNegativeInteger, 0)
    .option(
      '--part-bytes <n>',
      'bytes of input that a thread processes at a time',
      positiveInteger,
      DEFAULT_PART_BYTES,
    )
    .option('--skip-bad', 'leave out lines and rows without a text, and list them in skipped.txt', false)
    .option('--jobs <n>', 'number of threads', positiveInteger, availableParallelism())
    .addOption(uncheckedOption())
    .addOption(jsonOption())
    .option('--quiet', 'print no progress', false)
    .addHelpText(
      'after',
      '\nExample:\n  $ mod data prepare c4/*.json.gz --out data\n  $ mod data prepare book.txt --separator "\\n\\n" --tokenizer bytes --out data',
    )
    .action(async (files, options) => {
      const { dataPrepareCommand } = await import('./commands/data-prepare.js');
      await dataPrepareCommand(files, options, print);
    });
  data
    .command('info')
    .description('print the format, tokens, vocabulary in use and first tokens of files')
    .argument('<file...>', 'files or globs')
    .option(
      '--tokenizer <name>',
      'bytes, gpt2, or a tokenizer.json (default: the one in the file’s folder; bytes for text)',
    )
    .option('--field <name>', 'field of JSON Lines, or column of Parquet, that contains the text', TEXT_FIELD)
    .option('--token-bytes <n>', 'bytes per token of a token file without a header', bareTokenBytes, 2)
    .addOption(uncheckedOption())
    .addOption(jsonOption())
    .addHelpText('after', '\nExample:\n  $ mod data info data/train-*.bin')
    .action(async (files, options) => {
      const { dataInfoCommand } = await import('./commands/data-info.js');
      await dataInfoCommand(files, options, print);
    });
}

function addTrainRun(mod: Command): void {
  mod
    .command('train-run', { hidden: true })
    .argument('<sweep>')
    .argument('<run>')
    .addOption(
      new Option('--config-hash <hash>', 'config hash of the run in the sweep’s plan')
        .makeOptionMandatory()
        .hideHelp(),
    )
    .addOption(new Option('--base-dir <dir>', 'folder of the sweep file').makeOptionMandatory().hideHelp())
    .addOption(backendOption())
    .addOption(precisionOption())
    .action(async (sweep, run, options) => {
      const { trainRunCommand } = await import('./commands/train-run.js');
      const { end, stoppedBy } = await trainRunCommand(sweep, run, options, print);
      process.exitCode = stoppedBy === null ? exitCodeOfRun(end) : exitCodeOfStop(stoppedBy);
    });
}

function addProbe(mod: Command): void {
  mod
    .command('probe', { hidden: true })
    .addOption(backendOption())
    .addOption(precisionOption())
    .action(async (options) => {
      const { probeCommand } = await import('./commands/probe.js');
      await probeCommand(options, print);
    });
}

function addCompletion(mod: Command): void {
  const shell = () => new Argument('<shell>', 'shell').choices(SHELLS);
  mod
    .command('completion')
    .description('print a script that completes commands, options, files, sweeps and runs in a shell')
    .addArgument(shell())
    .addHelpText(
      'after',
      '\nExample:\n  $ mod completion bash >> ~/.bashrc\n  $ mod completion zsh > ~/.zfunc/_mod\n  $ mod completion fish > ~/.config/fish/completions/mod.fish',
    )
    .action((name) => {
      process.stdout.write(completionScript(name, [process.execPath, resolve(process.argv[1] as string)]));
    });
  mod
    .command('complete', { hidden: true })
    .addArgument(shell())
    .argument('[word...]')
    .action(async (name, words) => {
      const { completeCommand } = await import('./commands/completion.js');
      await completeCommand(mod, name, words, print);
    });
}

/** Runs one command and sets the exit code. Prints an error as one line, with --debug also its stack trace. */
export async function main(argv: string[]): Promise<void> {
  process.exitCode = EXIT.done;
  handleOutputErrors();
  releaseLostTerminals();
  const mod = program();
  try {
    await mod.parseAsync(argv);
  } catch (error) {
    process.exitCode = exitCodeOf(error);
    if (error instanceof CommanderError) return; // commander has printed it
    printError(messageOf(error));
    if (mod.opts().debug && error instanceof Error) process.stderr.write(`${error.stack}\n`);
  }
}
