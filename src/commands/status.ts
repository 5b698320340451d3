/** `mod status`: the progress of a sweep's runs, from its files and, if it was submitted, from Slurm. */

import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { folderBytes } from '../checkpoint/folder.js';
import { jsonText } from '../files/numbers.js';
import { bytes, counted, lossText, table } from '../format.js';
import { movesCursor } from '../machine.js';
import { readManifest, readResult, runFiles } from '../results/run-folder.js';
import { findSweep, isSweeping, orphanRuns, readPlan } from '../results/sweep-folder.js';
import { refreshTables } from '../results/tables.js';
import { clusterProgress } from '../slurm/status.js';
import { isInProgress, sweepProgress } from '../sweep/status.js';
import { inOrder, type StatusSelection, selectedRuns, statusText, summaryLine } from './status-view.js';
import { type Output, terminalOf } from './terminal.js';

export interface StatusCommandOptions extends StatusSelection {
  results: string;
  watch: boolean;
  /** All rows, also those that do not fit the terminal. */
  all: boolean;
  /** Lists the run folders that the plan does not contain, instead of the runs. */
  orphans: boolean;
  json: boolean;
}

/** Milliseconds between two checks of --watch. */
const WATCH_INTERVAL = 2000;
/** Escape sequences: move the cursor to the upper left; clear the line after it; clear the screen after it. */
const [HOME, CLEAR_LINE, CLEAR_BELOW] = ['\u001B[H', '\u001B[K', '\u001B[J'];

/**
 * Prints the state of a sweep or of one run. With `watch` until no run is training: on a terminal redrawn in place, elsewhere
 * a line whenever something has changed, and the whole state at the end.
 *
 * @throws InputError for an unknown target
 */
export async function statusCommand(
  target: string | undefined,
  options: StatusCommandOptions,
  out: Output,
): Promise<void> {
  const { results, watch, json, all } = options;
  const { sweepFolder, runId } = findSweep(target, results);
  if (options.orphans) {
    out.write(`${orphansText(sweepFolder, json)}\n`);
    return;
  }
  let last = '';
  for (;;) {
    const sweeping = isSweeping(sweepFolder); // read before the runs, so that the last output is the final state
    const { name, runs } = readPlan(sweepFolder);
    const selected = runs.filter(({ run_id }) => runId === null || run_id === runId);
    const files = sweepProgress(sweepFolder, selected);
    const progress = (await clusterProgress(sweepFolder, files)) ?? files;
    refreshTables(sweepFolder, runs);
    const ended = !watch || !isInProgress(progress.runs, sweeping);
    const terminal = terminalOf(out);
    const redrawn = watch && !json && movesCursor(out);
    const print = (text: string) => {
      if (redrawn)
        out.write(`${HOME}${text.replaceAll('\n', `${CLEAR_LINE}\n`)}${CLEAR_LINE}\n${CLEAR_BELOW}`);
      else if (text !== last) out.write(`${text}\n`);
      last = text;
    };
    if (json) {
      const shown = inOrder(
        selectedRuns<(typeof progress.runs)[number]>(progress.runs, options),
        options.sort ?? 'plan',
      );
      print(jsonText({ ...progress, runs: shown }, watch ? undefined : 1));
    } else if (ended || redrawn) {
      const orphans = runId === null ? orphanRuns(sweepFolder, runs).length : 0;
      // The last line of the screen is left for the cursor.
      const lines = all && !redrawn ? Number.POSITIVE_INFINITY : terminal.rows - 1;
      print(statusText({ name, progress, selection: options, orphans, terminal, lines }));
    } else {
      const line = summaryLine(name, progress);
      if (line !== last) out.write(`${new Date().toISOString()} ${line}\n`);
      last = line;
    }
    if (ended) return;
    await sleep(WATCH_INTERVAL);
  }
}

/** The run folders that the plan does not contain, with their results and the size of their checkpoints. */
function orphansText(sweepFolder: string, json: boolean): string {
  const { name, runs } = readPlan(sweepFolder);
  const orphans = orphanRuns(sweepFolder, runs).map((run_id) => {
    const folder = join(sweepFolder, run_id);
    const result = readResult(folder);
    return {
      run_id,
      status: result?.status ?? 'interrupted',
      loss: result?.loss ?? null,
      started_at: readManifest(folder)?.started_at ?? null,
      checkpoint_bytes: folderBytes(runFiles(folder).checkpoints),
      folder,
    };
  });
  if (json) return JSON.stringify(orphans, null, 1);
  if (orphans.length === 0) return `${name}: every run folder is in the plan`;
  const rows = orphans.map(({ run_id, status, loss, started_at, checkpoint_bytes }) => [
    run_id,
    status,
    lossText(loss),
    started_at ?? '-',
    bytes(checkpoint_bytes),
  ]);
  return [
    `${name}: ${counted(orphans.length, 'run folder')} that the sweep file no longer contains`,
    table(['run', 'status', 'loss', 'started', 'checkpoints'], rows),
    `They are in no table and no report. To show them again add their points to the sweep file and run mod sweep; to free the space delete their folders in ${sweepFolder}.`,
  ].join('\n\n');
}
