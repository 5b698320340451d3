/** Predictions as dated files beside reports: `prediction-1e17-2026-12-01.json`. */
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { InputError } from '../errors.js';
import { readJson, writeJson } from '../files/json.js';
import { gitCommit, programVersion } from '../results/provenance.js';
import type { Predicted, Prediction } from './prediction.js';
import { budgetName } from './words.js';

const FILE = /^prediction-.*\.json$/;

/** Writes a prediction to a report's folder and returns its path; one of the same budget and day gets a number. */
export function writePrediction(folder: string, predicted: Predicted, sweeps: string[], now: Date): string {
  const day = now.toISOString().slice(0, 10);
  const name = `prediction-${budgetName(predicted.flop_budget)}-${day}`;
  let path = join(folder, `${name}.json`);
  for (let i = 2; existsSync(path); i++) path = join(folder, `${name}-${i}.json`);
  const prediction: Prediction = {
    format: 'mod-prediction-1',
    predicted_at: now.toISOString(),
    mod: programVersion(),
    git_commit: gitCommit(),
    sweeps,
    ...predicted,
  };
  writeJson(path, prediction);
  return path;
}

/**
 * The predictions in some folders of reports, the oldest first; a folder that is named twice or missing adds none.
 *
 * @throws InputError for a file of another format
 */
export function readPredictions(folders: readonly string[]): Prediction[] {
  const paths = [...new Set(folders)].filter(existsSync).flatMap((folder) =>
    readdirSync(folder)
      .filter((name) => FILE.test(name))
      .map((name) => join(folder, name)),
  );
  return paths.map(readPrediction).sort((a, b) => a.predicted_at.localeCompare(b.predicted_at));
}

function readPrediction(path: string): Prediction {
  const found = readJson(path) as Partial<Prediction> | null;
  const isPrediction =
    found?.format === 'mod-prediction-1' &&
    typeof found.predicted_at === 'string' &&
    typeof found.flop_budget === 'number' &&
    Array.isArray(found.budgets) &&
    Array.isArray(found.kinds) &&
    found.difference !== undefined;
  if (!isPrediction) {
    throw new InputError(`${path}: not a prediction of mod report --predict; move it elsewhere`);
  }
  return found as Prediction;
}
