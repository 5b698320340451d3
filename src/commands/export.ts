/** `mod export`: the curves of runs as files for TensorBoard or Weights & Biases. */
import { mkdirSync, readdirSync, rmdirSync, rmSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { InputError } from '../errors.js';
import { type CurveStep, curvesOf } from '../export/curves.js';
import { writeEvents } from '../export/event-file.js';
import type { ExportFormat } from '../export/formats.js';
import { WANDB_FILES, wandbFiles } from '../export/wandb.js';
import { makeResultsFolder, writeFileAtomic } from '../files/atomic.js';
import { readJson, writeJson } from '../files/json.js';
import { counted, firstOf } from '../format.js';
import { type LoadedRun, loadRuns } from '../results/load.js';
import { findSweep } from '../results/sweep-folder.js';

export interface ExportCommandOptions {
  format: ExportFormat;
  results: string;
  /** Output folder; undefined: `export/<format>` in the sweep's folder. */
  out?: string;
}

/** TensorBoard finds event files by this name. It is fixed: a repeated export adds to the file. */
const EVENT_FILE = 'events.out.tfevents.0000000000.mod';

interface FormatFiles {
  /** The names of the files of a run. */
  names: readonly string[];
  write: (folder: string, run: LoadedRun, curves: readonly CurveStep[]) => void;
}

const FORMATS = {
  tensorboard: {
    names: [EVENT_FILE],
    write: (folder, _, curves) => {
      const scalars = curves.flatMap(({ step, wallTime, values }) =>
        Object.entries(values).map(([tag, value]) => ({ tag, step, value, wallTime })),
      );
      writeEvents(join(folder, EVENT_FILE), scalars, curves[0]?.wallTime ?? 0);
    },
  },
  wandb: {
    names: WANDB_FILES,
    write: (folder, run, curves) => {
      const files = wandbFiles(run, curves);
      for (const name of WANDB_FILES) writeFileAtomic(join(folder, name), files[name]);
    },
  },
} satisfies Record<ExportFormat, FormatFiles>;

/**
 * Writes one folder per run that has taken a step, removes those of earlier exports whose runs are no longer planned, and
 * prints the path of the output folder and what was removed.
 *
 * @throws InputError for an unknown target or one without steps, or a folder that cannot be written
 */
export async function exportCommand(
  target: string | undefined,
  { format, results, out }: ExportCommandOptions,
  print: (text: string) => void,
): Promise<void> {
  const { sweepFolder, runId } = findSweep(target, results);
  const runs = loadRuns([sweepFolder]).filter(({ row }) => runId === null || row.run_id === runId);
  const folder = out ?? join(sweepFolder, 'export', format);
  makeResultsFolder(folder, '--out');
  const written = runs.filter((run) => exportRun(run, folder, format));
  if (written.length === 0)
    throw new InputError(`${target ?? sweepFolder}: no run has taken a step; train it first with mod sweep`);
  print(`${folder}: ${counted(written.length, 'run')}`);
  if (runId !== null) return;
  const planned = new Set(runs.map(({ row }) => row.run_id));
  const before = out === undefined ? readdirSync(folder) : replaceIndex(folder, sweepFolder, [...planned]);
  const dropped = before.filter((id) => !planned.has(id) && removeExported(join(folder, id), format));
  if (dropped.length === 0) return;
  const were = dropped.length === 1 ? 'which is' : 'which are';
  print(
    `removed ${counted(dropped.length, 'run')}, ${were} no longer planned: ${firstOf(dropped).join(', ')}`,
  );
}

function exportRun(run: LoadedRun, folder: string, format: ExportFormat): boolean {
  const curves = curvesOf(run);
  if (curves.length === 0) return false;
  const runFolder = join(folder, run.row.run_id);
  mkdirSync(runFolder, { recursive: true });
  FORMATS[format].write(runFolder, run, curves);
  return true;
}

/** In a folder of --out, which other sweeps and programs may use: the runs that were exported, by the sweep's folder. */
const INDEX_FILE = '.mod-export.json';

/** Records a sweep's runs; returns those that were recorded before. */
function replaceIndex(folder: string, sweepFolder: string, runs: string[]): string[] {
  const path = join(folder, INDEX_FILE);
  const index = (readJson(path) ?? {}) as Record<string, string[] | undefined>;
  const key = resolve(sweepFolder);
  writeJson(path, { ...index, [key]: runs });
  const others = Object.entries(index).filter(([other]) => other !== key);
  const theirs = new Set(others.flatMap(([, ids]) => ids ?? []));
  return (index[key] ?? []).filter((id) => !theirs.has(id));
}

/** Removes the folder of a run if it has an export of this format and nothing else; returns whether it was removed. */
function removeExported(folder: string, format: ExportFormat): boolean {
  const names: readonly string[] = FORMATS[format].names;
  let found: string[];
  try {
    found = readdirSync(folder);
  } catch {
    return false; // not a folder
  }
  if (found.length === 0 || !found.every((name) => names.includes(name))) return false;
  for (const name of found) rmSync(join(folder, name));
  rmdirSync(folder);
  return true;
}
