/** Loads the runs of sweeps in their current state, finished or not, with their evaluations and analyses. */
import { existsSync } from 'node:fs';
import { basename, resolve } from 'node:path';
import { readCsv } from '../files/csv.js';
import type { PlannedRun, RunSpec } from '../plan/run.js';
import { type Analysis, readAnalysis } from './analysis.js';
import { EVAL_TABLE, type EvalRow, RUN_TABLE, type RunRow, type StepRow } from './columns.js';
import { currentRow, readEvaluations, runFiles } from './run-folder.js';
import { readSteps } from './steps.js';
import { findSweep, readDataWarnings, readPlan, runFolder, sweepFiles } from './sweep-folder.js';

/** A run of a sweep, loaded from its folder or, if that is missing, from the sweep's tables. */
export interface LoadedRun {
  /** The sweep's name. */
  sweep: string;
  /** Absent for runs that were made in memory. */
  folder?: string;
  row: RunRow;
  spec: RunSpec;
  evaluations: EvalRow[];
  /** Warnings about the data of its sweep. */
  dataWarnings?: readonly string[];
  analysis: Analysis | null;
  /** Reads the file on each call: of hundreds of runs only a few are drawn step by step. */
  steps: () => StepRow[];
}

/** The folders of the sweeps that targets name, each once. */
export function sweepFolders(targets: readonly string[], resultsDir: string): string[] {
  const found = targets.length === 0 ? [undefined] : targets;
  return [...new Set(found.map((target) => findSweep(target, resultsDir).sweepFolder))];
}

/**
 * All runs of some sweeps, in the order of their plans. If a run's folder is missing, for example because only the tables
 * were copied, the run is read from runs.csv and eval.csv.
 *
 * @throws InputError if a file cannot be read
 */
export function loadRuns(folders: readonly string[]): LoadedRun[] {
  return folders.flatMap((folder) => {
    const { name, runs } = readPlan(folder);
    const tables = new Tables(folder);
    const dataWarnings = readDataWarnings(folder);
    return runs.map((run) => ({ ...loadRun(name ?? basename(folder), folder, run, tables), dataWarnings }));
  });
}

function loadRun(sweep: string, sweepFolder: string, run: PlannedRun, tables: Tables): LoadedRun {
  const folder = runFolder(sweepFolder, run.run_id);
  const hasFolder = existsSync(folder);
  return {
    sweep,
    folder: resolve(folder),
    spec: run.spec,
    row: (hasFolder ? null : tables.run(run.run_id)) ?? currentRow(folder, run),
    evaluations: hasFolder ? readEvaluations(folder) : tables.evaluations(run.run_id),
    analysis: readAnalysis(folder),
    steps: () => readSteps(runFiles(folder).steps),
  };
}

/** runs.csv and eval.csv of a sweep, read when the first run without a folder needs them. */
class Tables {
  private runs: Map<string, RunRow> | null = null;
  private evals: EvalRow[] | null = null;

  constructor(private readonly folder: string) {}

  run(id: string): RunRow | null {
    if (this.runs === null) {
      const path = sweepFiles(this.folder).runs;
      const rows = existsSync(path) ? readCsv<RunRow>(path, RUN_TABLE) : [];
      this.runs = new Map(rows.map((row) => [row.run_id, row]));
    }
    return this.runs.get(id) ?? null;
  }

  evaluations(id: string): EvalRow[] {
    if (this.evals === null) {
      const path = sweepFiles(this.folder).evaluations;
      this.evals = existsSync(path) ? readCsv<EvalRow>(path, EVAL_TABLE) : [];
    }
    return this.evals.filter(({ run_id }) => run_id === id);
  }
}
