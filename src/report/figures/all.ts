/** All figures of a report, in the order of the page, including those that lack data. */
import type { Study } from '../study.js';
import type { Figure, MissingFigure } from './figure.js';
import { allBudgetsFigure, expertsFigures, isoflopFigures } from './isoflop.js';
import { normalisedFigure } from './normalised.js';
import { residualsFigure } from './residuals.js';
import { engagementFigure, heatmapFigure, routerWeightsFigure } from './routing.js';
import { samplingFigure } from './sampling.js';
import { scalingFigure } from './scaling.js';
import { speedFigure, stepTimeFigure } from './speed.js';
import { stylesOf } from './style.js';
import { learningCurvesFigure, predictorFigure } from './training.js';

export interface Figures {
  drawn: Figure[];
  missing: MissingFigure[];
}

export function figuresOf(study: Study): Figures {
  const styles = stylesOf(study.budgets.flatMap(({ curves }) => curves.map(({ setting }) => setting)));
  const all = [
    ...[...study.budgets].reverse().flatMap((budget) => isoflopFigures(budget, styles)),
    residualsFigure(study, styles),
    learningCurvesFigure(study, styles),
    speedFigure(study, styles),
    stepTimeFigure(study, styles),
    allBudgetsFigure(study, styles),
    normalisedFigure(study, styles),
    scalingFigure(study, styles, 'params'),
    scalingFigure(study, styles, 'tokens'),
    heatmapFigure(study, styles),
    routerWeightsFigure(study, styles),
    engagementFigure(study, styles),
    samplingFigure(study, styles),
    predictorFigure(study, styles),
    ...expertsFigures(study, styles),
  ];
  return {
    drawn: all.filter((one): one is Figure => 'svg' in one),
    missing: all.filter((one): one is MissingFigure => 'needs' in one),
  };
}
