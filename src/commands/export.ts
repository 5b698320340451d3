/** `mod export`: the curves of runs as files for TensorBoard or Weights & Biases. */
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { InputError } from '../errors.js';
import { type CurveStep, curvesOf } from '../export/curves.js';
import type { ExportFormat } from '../export/formats.js';
import { eventFile } from '../export/tensorboard.js';
import { wandbFiles } from '../export/wandb.js';
import { makeResultsFolder, writeFileAtomic } from '../files/atomic.js';
import { counted } from '../format.js';
import { type LoadedRun, loadRuns } from '../results/load.js';
import { findSweep } from '../results/sweep-folder.js';

export interface ExportCommandOptions {
  format: ExportFormat;
  results: string;
  /** Output folder; undefined: `export/<format>` in the sweep's folder. */
  out?: string;
}

/** The files of a run, by name. */
type FilesOf = (
  run: LoadedRun,
  curves: readonly CurveStep[],
) => Readonly<Record<string, Uint8Array | string>>;

/** TensorBoard finds event files by this name. It is fixed, so that a repeated export replaces the file. */
const EVENT_FILE = 'events.out.tfevents.0000000000.mod';

const FORMATS = {
  tensorboard: (_, curves) => {
    const scalars = curves.flatMap(({ step, wallTime, values }) =>
      Object.entries(values).map(([tag, value]) => ({ tag, step, value, wallTime })),
    );
    return { [EVENT_FILE]: eventFile(scalars, curves[0]?.wallTime ?? 0) };
  },
  wandb: (run, curves) => ({ ...wandbFiles(run, curves) }),
} satisfies Record<ExportFormat, FilesOf>;

/**
 * Writes one folder per run that has taken a step, and prints the path of the output folder.
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
}

function exportRun(run: LoadedRun, folder: string, format: ExportFormat): boolean {
  const curves = curvesOf(run);
  if (curves.length === 0) return false;
  const runFolder = join(folder, run.row.run_id);
  mkdirSync(runFolder, { recursive: true });
  const files = FORMATS[format](run, curves);
  for (const [name, content] of Object.entries(files)) writeFileAtomic(join(runFolder, name), content);
  return true;
}
