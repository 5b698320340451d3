/** Writes a report: the page, every figure as SVG and PNG, and every number as JSON. */
import { mkdirSync, readdirSync, rmSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { writeFileAtomic } from '../files/atomic.js';
import { writeJson } from '../files/json.js';
import type { LoadedRun } from '../results/load.js';
import { gitCommit, programVersion } from '../results/provenance.js';
import { cautionsOf } from './cautions.js';
import { claimsOf } from './claims/all.js';
import type { Claim } from './claims/claim.js';
import { computeMultiplier } from './equal-time.js';
import { type Figures, figuresOf } from './figures/all.js';
import type { Noise } from './noise.js';
import { pageOf } from './page.js';
import { toPng } from './png.js';
import { type Prediction, type Score, scoresOf } from './prediction.js';
import { rateCurves } from './rates.js';
import { residualGroups } from './residuals.js';
import { type Curve, type LeftOut, type Study, studyOf } from './study.js';
import { trainingOf } from './training.js';

export interface Report {
  study: Study;
  claims: Claim[];
  figures: Figures;
  /** Of budgets that are not trained yet. */
  pending: Prediction[];
  /** Of budgets that were trained after the prediction. */
  scores: Score[];
  /** Started runs that the sweep file no longer contains: their folders are kept, and nothing here uses them. */
  orphans: readonly LeftOut[];
}

/** The content of a report, computed from runs and from earlier predictions only; `orphans` are listed. */
export function reportOf(
  runs: readonly LoadedRun[],
  predictions: readonly Prediction[] = [],
  orphans: readonly LeftOut[] = [],
): Report {
  const study = studyOf(runs);
  const scores = scoresOf(study, predictions);
  const scored = new Set(scores.map(({ prediction }) => prediction));
  const pending = predictions.filter((one) => !scored.has(one));
  return { study, claims: claimsOf(study), figures: figuresOf(study), pending, scores, orphans };
}

export interface ReportFiles {
  page: string;
  json: string;
  /** The folder of the figures, each as `<id>.svg` and, where it can be drawn, `<id>.png`. */
  figures: string;
}

export function reportFiles(folder: string): ReportFiles {
  return {
    page: join(folder, 'index.html'),
    json: join(folder, 'report.json'),
    figures: join(folder, 'figures'),
  };
}

/** Writes all files, the page last; removes figures that are no longer drawn. */
export function writeReport(
  folder: string,
  report: Report,
  now: Date,
  reloadSeconds: number | null = null,
): ReportFiles {
  const files = reportFiles(folder);
  const { study, claims, figures, pending, scores, orphans } = report;
  mkdirSync(files.figures, { recursive: true });
  const names = new Set<string>();
  for (const { id, svg } of figures.drawn) {
    writeFileAtomic(join(files.figures, `${id}.svg`), standalone(svg));
    names.add(`${id}.svg`);
    const png = toPng(svg);
    if (png === null) continue;
    writeFileAtomic(join(files.figures, `${id}.png`), png);
    names.add(`${id}.png`);
  }
  for (const name of readdirSync(files.figures)) {
    if (/^[\w.-]+\.(svg|png)$/.test(name) && !names.has(name)) rmSync(join(files.figures, name));
  }
  const sweeps = [...new Set(study.runs.map(({ sweep }) => sweep))];
  const commit = gitCommit();
  const generatedAt = now.toISOString();
  writeJson(files.json, {
    generated_at: generatedAt,
    mod: programVersion(),
    git_commit: commit,
    sweeps,
    ...numbersOf(report),
  });
  const program = `mod ${programVersion()}${commit === null ? '' : `, commit ${commit.slice(0, 7)}`}`;
  writeFileAtomic(
    files.page,
    pageOf({
      sweeps,
      study,
      claims,
      figures,
      pending,
      scores,
      orphans,
      generatedAt,
      program,
      folder: resolve(folder),
      reloadSeconds,
    }),
  );
  return files;
}

/** A figure for its own file, black on white: it has no page to inherit colours from. */
function standalone(svg: string): string {
  return `<?xml version="1.0" encoding="UTF-8"?>\n${svg.replace(/<desc>.*?<\/desc>/s, (desc) => `${desc}<rect width="100%" height="100%" fill="#fff"></rect>`)}\n`;
}

/** The content of report.json, except its origin. */
export function numbersOf({ study, claims, figures, pending, scores, orphans }: Report): object {
  return {
    runs: { planned: study.runs.length, done: study.done.length },
    left_out: [...study.leftOut, ...orphans],
    cautions: cautionsOf(study),
    claims,
    budgets: study.budgets.map(({ budget, curves, noise }) => ({
      flop_budget: budget,
      noise: noiseNumbers(noise),
      curves: curves.map(curveNumbers),
    })),
    scaling: study.scalings,
    compute: study.budgets.map((budget) => ({
      flop_budget: budget.budget,
      multiplier: computeMultiplier(study, budget),
    })),
    joint_law: jointNumbers(study),
    learning_rates: rateCurves(study.budgets),
    predictions: { pending, scores },
    figures: figures.drawn.map(({ id, title, paper, reading, notes = '', table }) => ({
      id,
      title,
      paper,
      reading,
      notes,
      ...table,
    })),
    not_drawn: figures.missing,
  };
}

function jointNumbers({ joint, done }: Study): object | null {
  if (joint === null) return null;
  const { residuals: _, lossOf: __, resampledLosses: ___, ...law } = joint;
  return { ...law, residuals: residualGroups(joint, done) };
}

/** The standard deviation of a run's loss, and the tests behind it. */
function noiseNumbers({ kind, pooled, seeds, equalCurves, equalSizes }: Noise): object {
  return {
    deviation: pooled && Math.sqrt(pooled.variance),
    freedom: pooled?.freedom ?? null,
    kind,
    seeds_paired: seeds,
    p_equal_between_curves: equalCurves,
    p_equal_between_sizes: equalSizes,
  };
}

function curveNumbers(curve: Curve): object {
  const { setting, runs, fit, optimum, best, doubt } = curve;
  const { line: _, weights: __, plain: ___, minimum: ____, ...numbers } = fit;
  return {
    setting,
    runs: runs.map(({ row }) => row.run_id),
    best_run: best.row.run_id,
    optimum,
    doubt,
    training: doubt === null ? trainingOf(curve) : null,
    fit: numbers,
  };
}
