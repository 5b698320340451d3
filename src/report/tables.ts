/** The page's tables of fits and of runs that are left out. */

import type { Interval } from './curve-fit.js';
import { differenceText } from './differences.js';
import { pText } from './doubts.js';
import { computeMultiplier, equalTimeDifference } from './equal-time.js';
import type { DataTable } from './figures/figure.js';
import { exponent } from './figures/scaling.js';
import type { PowerLaw } from './power-law.js';
import type { Inside, PredictedKind, Prediction, Score } from './prediction.js';
import { rateCurves } from './rates.js';
import { residualGroups } from './residuals.js';
import type { LeftOut, Study } from './study.js';
import { trainingOf } from './training.js';
import {
  budgetName,
  percent,
  shortCount,
  signedLoss,
  signedPercent,
  significant,
  withInterval,
} from './words.js';

/** One row per curve. */
export function fitTable({ budgets }: Study): DataTable {
  const head = [
    'budget',
    'setting',
    'runs',
    'sizes',
    'fit over',
    'optimum',
    'optimal loss',
    'optimal parameters',
    'optimal FLOPs per pass',
    'lack of fit',
  ];
  const rows = budgets.flatMap(({ budget, curves }) =>
    curves.map(({ setting, runs, fit, optimum, doubt }) => {
      const known = optimum.from === 'fit';
      return [
        budgetName(budget),
        setting.label,
        runs.length,
        fit.sizes,
        fit.line.length === 0
          ? ''
          : `${fit.axis === 'params_total' ? 'parameters' : 'FLOPs per pass'}${fit.kind === 'size' ? '' : ', depth over width'}`,
        doubt === null ? 'known' : `not known: ${doubt.reason}`,
        known ? withInterval(optimum.loss, optimum.lossInterval, (loss) => loss.toFixed(4)) : '',
        known ? withInterval(optimum.params, optimum.paramsInterval, shortCount) : '',
        known ? withInterval(optimum.flopsPerPass, optimum.flopsInterval, significant) : '',
        fit.lackOfFit === null ? '' : pText(fit.lackOfFit.p),
      ];
    }),
  );
  return { head, rows };
}

/** One row per known optimum: what it takes to train it. */
export function optimumTable({ budgets }: Study): DataTable {
  const head = [
    'budget',
    'setting',
    'parameters',
    'tokens',
    'passes over the data',
    'steps',
    'sequences a step',
  ];
  const rows = budgets.flatMap(({ budget, curves }) =>
    curves
      .filter(({ doubt }) => doubt === null)
      .map((curve) => {
        const { tokens, passes, steps, batch } = trainingOf(curve);
        return [
          budgetName(budget),
          curve.setting.label,
          shortCount(curve.optimum.params),
          shortCount(tokens),
          passes === null ? '' : significant(passes),
          Math.round(steps),
          batch,
        ];
      }),
  );
  return { head, rows };
}

/** One row per budget with dense and MoD optima: what routing is worth in compute and in time. */
export function computeTable(study: Study): DataTable {
  const head = [
    'budget',
    'compute that the dense model would need for the loss of the optimal MoD',
    'time of the optimal MoD for the same FLOPs',
    'loss in the same time, MoD minus dense',
  ];
  const rows = study.budgets.flatMap((budget) => {
    const multiplier = computeMultiplier(study, budget);
    const time = equalTimeDifference(study, budget);
    if (multiplier === null && time === null) return [];
    return [
      [
        budgetName(budget.budget),
        multiplier === null
          ? ''
          : `${withInterval(multiplier.value, multiplier.interval, significant)} times`,
        time === null ? '' : percent(time.share),
        time === null ? '' : differenceText(time.difference),
      ],
    ];
  });
  return { head, rows };
}

/** One row per routing setting of the joint law. */
export function jointTable({ joint }: Study): DataTable {
  const head = ['setting', 'dense parameters that a parameter of a routed block replaces'];
  const rows = (joint?.kappas ?? []).map(({ label, value, interval }) => [
    label,
    withInterval(value, interval, (one) => one.toFixed(2)),
  ]);
  return { head, rows };
}

/** The errors of the joint law by groups of runs. */
export function residualTable({ joint, done }: Study): DataTable {
  const head = ['by', 'value', 'shapes', 'loss over the law’s, minus 1'];
  const rows = (joint === null ? [] : residualGroups(joint, done)).map(
    ({ by, value, shapes, mean, interval }) => [
      by,
      value,
      shapes,
      withInterval(mean, interval, signedPercent),
    ],
  );
  return { head, rows };
}

/** One row per shape that was trained at several learning rates. */
export function rateTable({ budgets }: Study): DataTable {
  const head = ['budget', 'kind', 'width', 'layers', 'loss at each learning rate', 'best'];
  const rows = rateCurves(budgets).map(({ budget, kind, d_model, n_layers, points, best }) => [
    budgetName(budget),
    kind,
    d_model,
    n_layers,
    points.map(({ rate, loss }) => `${significant(rate)}: ${loss.toFixed(4)}`).join(', '),
    best === 'between' ? 'between' : `the ${best} tried`,
  ]);
  return { head, rows };
}

/** One row per setting with a law or a surface. */
export function scalingTable({ scalings }: Study): DataTable {
  const head = [
    'setting',
    'parameters ∝ budget^',
    'tokens ∝ budget^',
    'FLOPs per pass ∝ budget^',
    'approach 3: parameters ∝ budget^',
    'surface',
  ];
  const law = (found: PowerLaw | null) => (found === null ? '' : exponent(found));
  const rows = scalings
    .filter(({ params, tokens, flopsPerPass, surface }) =>
      [params, tokens, flopsPerPass, surface].some((one) => one !== null),
    )
    .map(({ setting, params, tokens, flopsPerPass, surface }) => [
      setting.label,
      law(params),
      law(tokens),
      law(flopsPerPass),
      surface === null
        ? ''
        : withInterval(surface.paramsExponent, surface.paramsInterval, (one) => one.toFixed(3)),
      surface === null ? '' : surfaceText(surface.surface),
    ]);
  return { head, rows };
}

function surfaceText({
  E,
  A,
  B,
  alpha,
  beta,
}: {
  E: number;
  A: number;
  B: number;
  alpha: number;
  beta: number;
}): string {
  return `${significant(E)} + ${significant(A)}/N^${alpha.toFixed(3)} + ${significant(B)}/D^${beta.toFixed(3)}`;
}

/** One row per predicted kind: what was predicted, and what was found where it was trained since. */
export function predictionTable(pending: readonly Prediction[], scores: readonly Score[]): DataTable {
  const head = ['predicted on', 'budget', 'kind', 'shape', 'predicted loss', 'found', 'within the interval'];
  const day = (prediction: Prediction) => prediction.predicted_at.slice(0, 10);
  const loss = (value: number, interval: Interval) => withInterval(value, interval, (one) => one.toFixed(4));
  const shapeText = ({ shape: { d_model, n_layers } }: PredictedKind) =>
    `width ${d_model}, ${n_layers} layers`;
  const scored = scores.flatMap(({ prediction, kinds, difference }) => [
    ...kinds.map((one) => [
      day(prediction),
      budgetName(prediction.flop_budget),
      one.kind,
      shapeText(one.predicted),
      loss(one.predicted.loss, one.predicted.interval),
      `${one.loss.toFixed(4)}${one.from === 'run' ? ' (best model)' : ''}`,
      insideText(one.inside),
    ]),
    ...(difference === null
      ? []
      : [
          [
            day(prediction),
            budgetName(prediction.flop_budget),
            `${prediction.difference.kind} minus dense`,
            '',
            withInterval(difference.predicted, difference.interval, signedLoss),
            signedLoss(difference.value),
            insideText(difference.inside),
          ],
        ]),
  ]);
  const open = pending.flatMap((prediction) => [
    ...prediction.kinds.map((one) => [
      day(prediction),
      budgetName(prediction.flop_budget),
      one.kind,
      shapeText(one),
      loss(one.loss, one.interval),
      'not trained',
      '',
    ]),
    [
      day(prediction),
      budgetName(prediction.flop_budget),
      `${prediction.difference.kind} minus dense`,
      '',
      withInterval(prediction.difference.value, prediction.difference.interval, signedLoss),
      'not trained',
      '',
    ],
  ]);
  return { head, rows: [...scored, ...open] };
}

const insideText = (inside: Inside) => (inside === null ? 'optimum not known' : inside ? 'yes' : 'no');

/** One row per run that is not used. */
export function leftOutTable(runs: readonly LeftOut[]): DataTable {
  return {
    head: ['sweep', 'run', 'status', 'why'],
    rows: runs.map(({ sweep, run_id, status, reason }) => [sweep, run_id, status, reason]),
  };
}
