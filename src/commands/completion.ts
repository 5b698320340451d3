/** `mod completion` and `mod complete`: the candidates for the word at the cursor, from the commands themselves. */
import { readdirSync } from 'node:fs';
import { dirname, join } from 'node:path';
import type { Argument, Command, Option } from 'commander';
import { isSweepFolder, tryReadPlan } from '../results/sweep-folder.js';
import type { Shell } from './completion-scripts.js';

interface Candidate {
  value: string;
  description: string;
}

interface Completion {
  /** Paths that the shell adds: none, folders, all files, or files with these extensions. */
  paths: 'none' | 'dirs' | 'files' | `files ${string}`;
  candidates: Candidate[];
}

const NOTHING: Completion = { paths: 'none', candidates: [] };

/** What the words before the cursor have settled. */
interface Context {
  /** Values of options that were given: the last one counts. */
  options: ReadonlyMap<string, string>;
  positional: readonly string[];
  current: string;
}

/** What an argument or the value of an option may be, by its name in the help. */
const VALUES: Record<string, (context: Context) => Completion | Promise<Completion>> = {
  config: () => ({ paths: 'files yaml yml', candidates: [] }),
  target: (context) => sweepsAndRuns(context, true),
  run: (context) => sweepsAndRuns(context, false),
  checkpoint: (context) => sweepsAndRuns(context, false),
  file: () => ({ paths: 'files', candidates: [] }),
  '--results': () => ({ paths: 'dirs', candidates: [] }),
  '--out': () => ({ paths: 'dirs', candidates: [] }),
  '--checkpoint': (context) => sweepsAndRuns(context, false),
  '--tokens': () => ({ paths: 'files', candidates: [] }),
  '--tokenizer': () => ({ paths: 'files json', candidates: namesOf(['bytes', 'gpt2']) }),
  '--match-flops': (context) => sweepsAndRuns(context, true),
  '--only': plannedRuns,
};

/**
 * Prints the candidates for the last word: a line that says which paths the shell adds, then a line per candidate, with its
 * description after a tab. Errors give no candidates: a shell must not print them between the user's words.
 *
 * @param program the whole command line
 * @param words those after `mod`, up to the cursor; the last one may be empty
 */
export async function completeCommand(
  program: Command,
  shell: Shell,
  words: readonly string[],
  out: (text: string) => void,
): Promise<void> {
  const { paths, candidates } = await completionOf(program, shell, words);
  out(
    [paths, ...candidates.map(({ value, description }) => `${value}\t${firstLine(description)}`)].join('\n'),
  );
}

async function completionOf(program: Command, shell: Shell, given: readonly string[]): Promise<Completion> {
  const words = shell === 'bash' ? joinedAtEquals(given) : [...given];
  const current = words.pop() ?? '';
  let command = program;
  const positional: string[] = [];
  const options = new Map<string, string>();
  /** The option whose value comes next. */
  let open: Option | undefined;
  let onlyArguments = false;
  for (const word of words) {
    if (!onlyArguments && word.startsWith('-')) {
      if (word === '--') onlyArguments = true;
      const [name, value] = split(word);
      const option = optionNamed(command, name);
      open = option !== undefined && takesValue(option) && value === undefined ? option : undefined;
      if (option?.long && value !== undefined) options.set(option.long, value);
    } else if (open !== undefined) {
      if (open.long) options.set(open.long, word);
      if (!open.variadic) open = undefined;
    } else {
      const next = positional.length === 0 ? command.commands.find((sub) => sub.name() === word) : undefined;
      if (next === undefined) positional.push(word);
      else command = next;
    }
  }
  const context = { options, positional, current };
  const isOption = !onlyArguments && current.startsWith('-');
  if (isOption) {
    const [name, value] = split(current);
    const option = value === undefined ? undefined : optionNamed(command, name);
    if (option === undefined) return { paths: 'none', candidates: startingWith(current, optionsOf(command)) };
    const found = await valuesOf(option.long ?? '', option.argChoices, { ...context, current: value ?? '' });
    // bash replaces only the text after the equals sign.
    const prefix = shell === 'bash' ? '' : `${name}=`;
    return {
      ...found,
      candidates: found.candidates.map((each) => ({ ...each, value: `${prefix}${each.value}` })),
    };
  }
  if (open !== undefined) return valuesOf(open.long ?? '', open.argChoices, context);
  if (positional.length === 0 && command.commands.length > 0) {
    return { paths: 'none', candidates: startingWith(current, commandsOf(command)) };
  }
  const argument = argumentAt(command, positional.length);
  return argument === undefined ? NOTHING : valuesOf(argument.name(), argument.argChoices, context);
}

/** bash divides `--a=b` into three words. */
function joinedAtEquals(words: readonly string[]): string[] {
  const joined: string[] = [];
  let after = false;
  for (const word of words) {
    if (joined.length > 0 && (word === '=' || after)) joined.push(`${joined.pop()}${word}`);
    else joined.push(word);
    after = word === '=';
  }
  return joined;
}

function split(word: string): [name: string, value: string | undefined] {
  const at = word.indexOf('=');
  return at < 0 ? [word, undefined] : [word.slice(0, at), word.slice(at + 1)];
}

function optionNamed(command: Command, name: string): Option | undefined {
  const all = [...command.options, ...(command.parent?.options ?? [])];
  return all.find(({ long, short }) => long === name || short === name);
}

const takesValue = ({ required, optional }: Option) => required || optional;

function argumentAt(command: Command, index: number): Argument | undefined {
  const { registeredArguments } = command;
  const last = registeredArguments.at(-1);
  return registeredArguments[index] ?? (last?.variadic === true ? last : undefined);
}

/** Hidden commands and options are for this program's own processes. */
function commandsOf(command: Command): Candidate[] {
  return command
    .createHelp()
    .visibleCommands(command)
    .map((sub) => ({ value: sub.name(), description: sub.description() }));
}

function optionsOf(command: Command): Candidate[] {
  const help = command.createHelp();
  const parents = command.parent === null ? [] : help.visibleOptions(command.parent);
  return [...help.visibleOptions(command), ...parents]
    .map((option) => ({ value: option.long ?? option.short ?? '', description: option.description }))
    .filter(({ value }, i, all) => all.findIndex((other) => other.value === value) === i);
}

async function valuesOf(
  name: string,
  choices: readonly string[] | undefined,
  context: Context,
): Promise<Completion> {
  const found = choices === undefined ? ((await VALUES[name]?.(context)) ?? NOTHING) : choicesOf(choices);
  return { ...found, candidates: startingWith(context.current, found.candidates) };
}

const choicesOf = (choices: readonly string[]): Completion => ({
  paths: 'none',
  candidates: namesOf(choices),
});
const namesOf = (names: readonly string[]): Candidate[] => names.map((value) => ({ value, description: '' }));
const startingWith = (start: string, candidates: readonly Candidate[]) =>
  candidates.filter(({ value }) => value.startsWith(start));
const firstLine = (text: string) => text.replace(/\s+/g, ' ').trim();

/** Sweeps below --results, and the runs of the sweep that the word names: `quick`, `quick/1.1e11-baseline-d64l4-s0`. */
function sweepsAndRuns({ current, options }: Context, alsoSweeps: boolean): Completion {
  const results = options.get('--results') ?? 'results';
  const [sweep, rest] = [dirname(current), current.includes('/')];
  const runs = rest ? quietly(() => tryReadPlan(join(results, sweep))?.runs ?? []) : [];
  const sweeps = quietly(() => readdirSync(results).filter((name) => isSweepFolder(join(results, name))));
  return {
    paths: 'dirs',
    candidates: [
      ...sweeps.flatMap((name) => (alsoSweeps ? [name, `${name}/`] : [`${name}/`])),
      ...runs.map(({ run_id }) => `${sweep}/${run_id}`),
    ].map((value) => ({ value, description: '' })),
  };
}

/** The runs of the sweep file on the command line. The planner is loaded for them alone: other candidates come at once. */
async function plannedRuns({ positional, options }: Context): Promise<Completion> {
  const [{ loadSweepFile }, { expandSweep }, { baselinesOf }] = await Promise.all([
    import('../config/sweep-file.js'),
    import('../plan/expand.js'),
    import('../report/baseline.js'),
  ]);
  const results = options.get('--results') ?? 'results';
  const runs = quietly(() => {
    const file = loadSweepFile(positional[0] ?? '');
    return expandSweep(file, baselinesOf(file, results)).filter(({ status }) => status === 'pending');
  });
  return choicesOf(runs.map(({ run_id }) => run_id));
}

function quietly<T>(list: () => T[]): T[] {
  try {
    return list();
  } catch {
    return [];
  }
}
