/** `mod report`: the page of figures and claims of sweeps, finished or still running. */

import { spawn } from 'node:child_process';
import { basename, join, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { makeResultsFolder } from '../files/atomic.js';
import { jsonText } from '../files/numbers.js';
import { counted, firstOf } from '../format.js';
import type { Claim, Verdict } from '../report/claims/claim.js';
import { NO_PNG } from '../report/png.js';
import { predict } from '../report/prediction.js';
import { readPredictions, writePrediction } from '../report/prediction-files.js';
import { numbersOf, type Report, reportOf, writeReport } from '../report/report.js';
import type { LeftOut } from '../report/study.js';
import { type LoadedRun, loadRuns, sweepFolders } from '../results/load.js';
import { readResult } from '../results/run-folder.js';
import { isSweeping, orphanRuns, readPlan, runFolder, sweepFiles } from '../results/sweep-folder.js';
import { refreshTables } from '../results/tables.js';
import { isInProgress } from '../sweep/status.js';

export interface ReportCommandOptions {
  results: string;
  /** Output folder; undefined: `report` in the sweep's folder, for several sweeps `report` in `results`. */
  out?: string;
  watch: boolean;
  json: boolean;
  /** Opens the page in a browser once it is written. */
  open?: boolean;
  /** Also writes a prediction of this budget. */
  predict?: number;
}

/** Milliseconds between two checks of --watch. */
const WATCH_INTERVAL = 2000;

/** Seconds after which a page that --watch keeps current loads itself again. */
const RELOAD_SECONDS = 10;

/**
 * Writes the report of the targets' sweeps and prints its path, or with `json` all its numbers. With `predict`, first writes a
 * prediction of that budget from the runs of smaller ones beside the report; every report scores the predictions it finds. With `watch`, repeats this
 * whenever the state of a run changes, until no run is training.
 *
 * @throws InputError for an unknown target, or a folder that cannot be written
 */
export async function reportCommand(
  targets: readonly string[],
  { results, out, watch, json, open = false, predict: budget }: ReportCommandOptions,
  print: (text: string) => void,
): Promise<void> {
  const folders = sweepFolders(targets, results);
  const [only] = folders;
  const folder =
    out ?? (folders.length === 1 ? sweepFiles(only as string).report : join(resolve(results), 'report'));
  makeResultsFolder(folder, '--out');
  if (budget !== undefined) {
    const runs = loadRuns(folders);
    const sweeps = [...new Set(runs.map(({ sweep }) => sweep))];
    const path = writePrediction(folder, predict(runs, budget), sweeps, new Date());
    if (!json) print(path);
  }
  const predictionFolders = [folder, ...folders.map((sweep) => sweepFiles(sweep).report)];
  let written = '';
  for (;;) {
    const sweeping = folders.some(isSweeping); // read before the runs, so that the last report is of the final state
    const runs = loadRuns(folders);
    const state = stateOf(runs);
    if (state !== written) {
      for (const sweep of folders) refreshTables(sweep, readPlan(sweep).runs);
      const report = reportOf(runs, readPredictions(predictionFolders), folders.flatMap(orphansOf));
      const inProgress = isInProgress(
        runs.map(({ row }) => row),
        sweeping,
      );
      const { page } = writeReport(folder, report, new Date(), watch && inProgress ? RELOAD_SECONDS : null);
      if (open && written === '') openInBrowser(page);
      if (NO_PNG !== null && written === '') console.error(NO_PNG);
      const { study, figures } = report;
      const done = `${study.done.length} of ${counted(runs.length, 'run')}`;
      const line = `${page}: ${done}, ${counted(figures.drawn.length, 'figure')}`;
      if (json) print(jsonText(numbersOf(report), watch ? undefined : 1));
      else
        print(
          watch
            ? line
            : [
                line,
                verdictsText(report.claims),
                ...orphansText(report.orphans),
                ...nextSteps(report, targets, inProgress, open),
              ].join('\n'),
        );
      written = state;
    }
    const rows = runs.map(({ row }) => row);
    if (!watch || !isInProgress(rows, sweeping)) return;
    await sleep(WATCH_INTERVAL);
  }
}

/** `18 claims: 5 hold, 2 fail, 4 are undecided, 7 are not tested` */
function verdictsText(claims: readonly Claim[]): string {
  const counts = VERDICTS.map(([verdict, one, several]) => {
    const number = claims.filter((claim) => claim.verdict === verdict).length;
    return number === 0 ? [] : [`${number} ${number === 1 ? one : several}`];
  });
  return `${counted(claims.length, 'claim')} of the paper: ${counts.flat().join(', ')}`;
}

const VERDICTS = [
  ['holds', 'holds', 'hold'],
  ['fails', 'fails', 'fail'],
  ['undecided', 'is undecided', 'are undecided'],
  ['not tested', 'is not tested', 'are not tested'],
] as const satisfies readonly (readonly [Verdict, string, string])[];

/** The started runs in a sweep's folder that its file no longer contains. */
function orphansOf(sweepFolder: string): LeftOut[] {
  const { name, runs } = readPlan(sweepFolder);
  return orphanRuns(sweepFolder, runs).map((run_id) => ({
    sweep: name ?? basename(sweepFolder),
    run_id,
    status: readResult(runFolder(sweepFolder, run_id))?.status ?? 'interrupted',
    reason: 'no longer in the sweep file; its folder is kept',
  }));
}

function orphansText(orphans: readonly LeftOut[]): string[] {
  if (orphans.length === 0) return [];
  const ids = firstOf(orphans.map(({ run_id }) => run_id)).join(', ');
  return [
    `Not shown, since the sweep file no longer contains them: ${orphans.length} (${ids}). Their folders are kept: mod status --orphans`,
  ];
}

/** What to do after a report: wait for its runs, or read what would decide the rest. */
function nextSteps(
  { claims }: Report,
  targets: readonly string[],
  inProgress: boolean,
  opened: boolean,
): string[] {
  const command = ['mod report', ...targets].join(' ');
  const open = claims.some(({ verdict }) => verdict === 'undecided' || verdict === 'not tested');
  return [
    ...(open ? ['The page says of each claim what would decide it.'] : []),
    ...(inProgress ? [`Next: ${command} --watch keeps it current until the last run has ended`] : []),
    ...(inProgress || opened ? [] : [`Next: ${command} --open shows the page in a browser`]),
  ];
}

/** The command that opens a file in the user's browser, by platform. */
const OPENERS: Partial<Record<NodeJS.Platform, readonly [command: string, ...args: string[]]>> = {
  darwin: ['open'],
  win32: ['cmd', '/c', 'start', ''],
};
const XDG_OPEN = ['xdg-open'] as const;

/** Opens a page in the default browser. On a machine without one the path that is printed is enough. */
function openInBrowser(page: string): void {
  const [command, ...args] = OPENERS[process.platform] ?? XDG_OPEN;
  const browser = spawn(command, [...args, page], { detached: true, stdio: 'ignore' });
  browser.on('error', () =>
    console.error(`--open: ${command} is not on this machine; open ${page} in a browser.`),
  );
  browser.unref();
}

/** Shares of training after which a running run's progress and curve are written again. */
const PROGRESS_PARTS = 20;

/** A string that changes when a run starts, advances, ends, is evaluated or is analysed. */
function stateOf(runs: readonly LoadedRun[]): string {
  return JSON.stringify(
    runs.map(({ row, evaluations, analysis, steps }) => [
      row.status,
      row.status === 'running' && Math.floor((PROGRESS_PARTS * (steps().at(-1)?.step ?? 0)) / row.steps),
      row.finished_at,
      evaluations.map(({ evaluated_at }) => evaluated_at),
      analysis?.analyzed_at,
    ]),
  );
}
