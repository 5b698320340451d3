/** Optimal parameters and tokens across budgets, and their power laws (Hoffmann et al. 2022, approach 2). */
import * as Plot from '@observablehq/plot';
import { type PowerLaw, powerLawAt } from '../power-law.js';
import type { Curve, Scaling, Study } from '../study.js';
import { budgetName, shortCount, withInterval } from '../words.js';
import { draw, type Figure, logTicks, type MissingFigure } from './figure.js';
import { legendOf, type Style } from './style.js';

type Axis = 'params' | 'tokens';
const NAMES = { params: 'parameters', tokens: 'training tokens' } as const;

/** The figure of one axis: parameters or tokens. */
export function scalingFigure(
  study: Study,
  styles: ReadonlyMap<string, Style>,
  axis: Axis,
): Figure | MissingFigure {
  const title = `Optimal ${NAMES[axis]} across budgets`;
  const laws = study.scalings.flatMap((scaling) => {
    const law = scaling[axis];
    return law === null ? [] : [{ setting: scaling.setting, law }];
  });
  const [first] = laws;
  if (first === undefined) {
    return {
      title,
      paper: null,
      needs: 'Needs a setting whose optimum is known at two budgets or more.',
    };
  }
  const keys = new Set(laws.map(({ setting }) => setting.key));
  const optima = study.budgets.flatMap(({ budget, curves }) =>
    curves.flatMap((curve) =>
      curve.optimum.from === 'run' || !keys.has(curve.setting.key)
        ? []
        : [{ budget, setting: curve.setting, ...(axis === 'params' ? paramsOf(curve) : tokensOf(curve)) }],
    ),
  );
  const budgets = study.budgets.map(({ budget }) => budget);
  const budgetEnds = [Math.min(...budgets) / 1.3, Math.max(...budgets) * 1.3] as const;
  const values = [
    ...laws.flatMap(({ law }) => lawPoints(law).map(({ value }) => value)),
    ...optima.map(({ value }) => value),
  ];
  const color = (key: string) => (styles.get(key) as Style).color;
  const svg = draw({
    title,
    description: `${NAMES[axis]} of the optimum against the budget in FLOPs, both logarithmic, with 95% intervals and fitted power laws.`,
    legend: legendOf(
      laws.map(({ setting }) => setting),
      styles,
    ),
    plot: {
      x: {
        type: 'log',
        label: 'budget, FLOPs',
        tickFormat: (value: number) => budgetName(value),
        ticks: logTicks(...budgetEnds, 5),
      },
      y: {
        type: 'log',
        label: `optimal ${NAMES[axis]}`,
        tickFormat: shortCount,
        ticks: logTicks(Math.min(...values), Math.max(...values)),
        grid: true,
      },
      marks: [
        ...laws.map(({ setting, law }) =>
          Plot.line(lawPoints(law), {
            x: 'budget',
            y: 'value',
            stroke: color(setting.key),
            strokeWidth: 1.5,
          }),
        ),
        Plot.link(optima, {
          x: 'budget',
          y1: ({ interval }) => interval?.[0],
          y2: ({ interval }) => interval?.[1],
          stroke: ({ setting }) => color(setting.key),
          strokeOpacity: 0.7,
        }),
        Plot.dot(optima, {
          x: 'budget',
          y: 'value',
          r: 4,
          fill: ({ setting }) => color(setting.key),
          title: ({ setting, budget, value, interval }) =>
            `${setting.label}\n${budgetName(budget)} FLOPs\n${withInterval(value, interval, shortCount)} ${NAMES[axis]}`,
        }),
      ],
    },
  });
  const reading = `Optimal ${NAMES[axis]} of ${first.setting.label} grow as the budget to the power ${exponent(first.law)}${surfaceReading(study.scalings, first.setting.key, axis)}.`;
  const head = ['setting', 'budget', NAMES[axis], 'low', 'high'];
  const rows = optima.map(({ setting, budget, value, interval }) => [
    setting.label,
    budget,
    value,
    interval?.[0] ?? null,
    interval?.[1] ?? null,
  ]);
  return { id: `scaling-${axis}`, title, paper: null, reading, svg, table: { head, rows }, wide: false };
}

const paramsOf = ({ optimum: { params, paramsInterval } }: Curve) => ({
  value: params,
  interval: paramsInterval,
});

/** Tokens of a budget at the optimal FLOPs per pass. */
function tokensOf({ budget, optimum: { flopsPerPass, flopsInterval }, best }: Curve) {
  const tokens = (flops: number) => (budget * best.row.sequence_length) / (3 * flops);
  return {
    value: tokens(flopsPerPass),
    interval: flopsInterval && ([tokens(flopsInterval[1]), tokens(flopsInterval[0])] as const),
  };
}

export function exponent({ exponent: value, exponentInterval }: PowerLaw): string {
  return withInterval(value, exponentInterval, (one) => one.toFixed(3));
}

function surfaceReading(scalings: readonly Scaling[], key: string, axis: Axis): string {
  const surface = scalings.find(({ setting }) => setting.key === key)?.surface;
  if (surface == null) return '';
  const value = axis === 'params' ? surface.paramsExponent : surface.tokensExponent;
  return `; the parametric fit over all its runs gives ${value.toFixed(3)}`;
}

function lawPoints(law: PowerLaw): { budget: number; value: number }[] {
  const ends = [Math.min(...law.budgets) / 1.3, Math.max(...law.budgets) * 1.3];
  return ends.map((budget) => ({ budget, value: powerLawAt(law, budget) }));
}
