/** `mod report`: the page of figures and claims of sweeps, finished or still running. */
import { join, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { makeResultsFolder } from '../files/atomic.js';
import { numbersOf, reportOf, writeReport } from '../report/report.js';
import { counted } from '../report/words.js';
import { type LoadedRun, loadRuns, sweepFolders } from '../results/load.js';
import { isSweeping, readPlan, sweepFiles } from '../results/sweep-folder.js';
import { refreshTables } from '../results/tables.js';
import { isMoreToCome } from '../sweep/status.js';

export interface ReportCommandOptions {
  results: string;
  /** Where it goes; undefined: into the sweep's folder, of several sweeps into `report` beside them. */
  out?: string;
  watch: boolean;
  json: boolean;
}

/** Milliseconds between two looks of --watch. */
const WATCH_INTERVAL = 2000;

/**
 * Writes the report of the targets' sweeps and prints where it is, or under `json` every number of it; with `watch` anew
 * whenever a run has changed its state, until nothing trains.
 *
 * @throws InputError for a target that is none, or a folder that cannot be written
 */
export async function reportCommand(
  targets: readonly string[],
  { results, out, watch, json }: ReportCommandOptions,
  print: (text: string) => void,
): Promise<void> {
  const folders = sweepFolders(targets, results);
  const [only] = folders;
  const folder =
    out ?? (folders.length === 1 ? sweepFiles(only as string).report : join(resolve(results), 'report'));
  makeResultsFolder(folder, '--out');
  let seen = '';
  for (;;) {
    const sweeping = folders.some(isSweeping); // before the runs: the last look is at what it left
    const runs = loadRuns(folders);
    const state = stateOf(runs);
    if (state !== seen) {
      for (const sweep of folders) refreshTables(sweep, readPlan(sweep).runs);
      const report = reportOf(runs);
      const { page } = writeReport(folder, report, new Date());
      const { study, figures } = report;
      const done = `${study.done.length} of ${counted(runs.length, 'run')}`;
      print(
        json
          ? JSON.stringify(numbersOf(report), null, watch ? undefined : 1)
          : `${page}: ${done}, ${counted(figures.drawn.length, 'figure')}`,
      );
      seen = state;
    }
    const rows = runs.map(({ row }) => row);
    if (!watch || !isMoreToCome(rows, sweeping)) return;
    await sleep(WATCH_INTERVAL);
  }
}

/** Changes when a run starts or ends, or is evaluated or analysed. */
function stateOf(runs: readonly LoadedRun[]): string {
  return JSON.stringify(
    runs.map(({ row, evaluations, analysis }) => [
      row.status,
      row.finished_at,
      evaluations.map(({ evaluated_at }) => evaluated_at),
      analysis?.analyzed_at,
    ]),
  );
}
