/** IsoFLOP curves: loss against parameters at one budget and at all budgets (figures 3 left, 4 left, and 7). */
import * as Plot from '@observablehq/plot';
import { VARIANTS } from '../../model/variants.js';
import { mean } from '../../statistics.js';
import { bestModel, trainedAlike } from '../claims/claim.js';
import type { Interval } from '../curve-fit.js';
import { differenceText, isUnknown, lossDifference, modelDifference } from '../differences.js';
import { isKnown } from '../fits.js';
import { groupBy } from '../group.js';
import { modelName } from '../settings.js';
import {
  type BudgetStudy,
  type Curve,
  type DoneRun,
  leastLoss,
  type SizeMean,
  type Study,
  sizesOf,
} from '../study.js';
import { budgetName, percent, shortCount, significant, withInterval } from '../words.js';
import {
  type DataTable,
  draw,
  type Figure,
  type LegendEntry,
  type LossFrame,
  linearTicks,
  logTicks,
  lossFrame,
  type MissingFigure,
  ofRun,
  sentences,
  seriesClass,
  stripMarks,
  withStrip,
} from './figure.js';
import { legendOf, type Style } from './style.js';

type Styles = ReadonlyMap<string, Style>;

export const isExpert = ({ setting }: Curve) => VARIANTS[setting.variant].family === 'experts';

export const isoflopId = ({ budget }: BudgetStudy) => `isoflop-${budgetName(budget)}`;

/** The minimum number of sizes of a curve that gets its own figure. */
const CURVE_SIZES = 3;

/**
 * Figure 3, left, for one budget: one figure of all curves trained like the baseline, and one for every other training
 * setting that has a curve.
 */
export function isoflopFigures(budget: BudgetStudy, styles: Styles): Figure[] {
  const curves = budget.curves.filter((curve) => !isExpert(curve));
  const title = `Loss against parameters at ${budgetName(budget.budget)} FLOPs`;
  const paper = 'figure 3, left';
  const groups = [...groupBy(curves, ({ setting }) => setting.others).entries()]
    .filter(([, group]) => group.some((curve) => sizesOf(curve.runs).length >= CURVE_SIZES))
    .filter(([, group]) => !budget.alike.includes(group[0]));
  const main = curves.filter((curve) => budget.alike.includes(curve));
  const left = curves.filter(
    (curve) => !main.includes(curve) && !groups.some(([, group]) => group.includes(curve)),
  );
  const others = main[0]?.setting.others ?? '';
  return [
    curvesFigure(
      {
        id: isoflopId(budget),
        title: others === '' ? title : `${title}, ${others}`,
        paper,
        reading: isoflopReading(budget),
        notes: sentences(unknown(budget), leftText(left)),
      },
      main.length > 0 ? main : curves,
      styles,
      true,
    ),
    ...groups.map(([how, group]) =>
      curvesFigure(
        {
          id: `${isoflopId(budget)}-${how.toLowerCase().replaceAll(/[^a-z\d.]+/g, '-')}`,
          title: `${title}, ${how}`,
          paper,
          reading: groupReading(how, group, budget),
        },
        group,
        styles,
      ),
    ),
  ];
}

/** The note about settings that are not drawn, such as a learning rate tried at one size. */
function leftText(left: readonly Curve[]): string {
  if (left.length === 0) return '';
  const each = left.map(({ setting, best }) => `${setting.name} ${best.loss.toFixed(4)}`);
  return `Tried at one or two sizes, and not drawn: ${each.join('; ')}.`;
}

function groupReading(how: string, group: readonly Curve[], budget: BudgetStudy): string {
  const best = leastLoss(group) as Curve;
  return `With ${how} the lowest loss is ${best.optimum.loss.toFixed(4)} nats, ${best.setting.name}${modelNote(best)}${against(best, budget, 'the optimal baseline')}.`;
}

/** Figure 4, left: the baseline and the best MoD setting at every budget. */
export function allBudgetsFigure({ budgets }: Study, styles: Styles): Figure | MissingFigure {
  const title = 'Loss against parameters at every budget';
  if (budgets.length < 2) return { title, paper: 'figure 4, left', needs: 'Needs runs of several budgets.' };
  const curves = budgets.flatMap(({ baseline, mod }) => [baseline, mod].filter((curve) => curve !== null));
  const steps = budgets.map(({ budget, baseline, mod, noise }) => {
    const gain = baseline && mod ? lossDifference(mod, baseline, noise) : null;
    const text = gain === null || isUnknown(gain) ? 'not known' : differenceText(gain);
    return `${text} at ${budgetName(budget)}`;
  });
  const reading = `Loss of the optimal MoD minus that of the optimal baseline: ${steps.join(', ')}.`;
  return curvesFigure({ id: 'isoflop-all', title, paper: 'figure 4, left', reading }, curves, styles);
}

/** Figure 7: experts with and without MoD, one figure for each budget that has them. */
export function expertsFigures({ budgets }: Study, styles: Styles): (Figure | MissingFigure)[] {
  const figures = budgets.flatMap((budget) => expertsFigure(budget, styles) ?? []);
  if (figures.length > 0) return figures;
  const needs =
    'Needs runs of the variants moe, mode-staged or mode-integrated: expert_variants in the sweep file.';
  return [{ title: EXPERTS_TITLE, paper: EXPERTS_SOURCE, needs }];
}

const [EXPERTS_TITLE, EXPERTS_SOURCE] = ['Mixture of Depths and Experts', 'figure 7'];

function expertsFigure({ budget, curves, noise }: BudgetStudy, styles: Styles): Figure | null {
  const experts = curves.filter(isExpert);
  const best = leastLoss(experts);
  if (best === null) return null;
  const dense = leastLoss(
    trainedAlike(
      curves.filter(({ setting }) => setting.variant === 'baseline'),
      best,
    ),
  );
  const shown = [...(dense === null ? [] : [dense]), ...experts];
  const gain =
    dense === null
      ? ''
      : `, ${differenceText(lossDifference(best, dense, noise))} against ${dense.setting.name}`;
  const figure = curvesFigure(
    {
      id: `experts-${budgetName(budget)}`,
      title: `${EXPERTS_TITLE} at ${budgetName(budget)} FLOPs`,
      paper: EXPERTS_SOURCE,
      reading: `At ${budgetName(budget)} FLOPs ${best.setting.name} has the lowest loss of those with experts, ${best.optimum.loss.toFixed(4)} nats${modelNote(best)}${gain}.${spread(best)}`,
    },
    shown,
    styles,
  );
  return { ...figure, table: expertsTable(shown.flatMap(({ runs }) => runs)) };
}

/** How the tokens of a curve's best run were divided among its experts, if known. */
function spread({ best: { row } }: Curve): string {
  const { expert_load: load, expert_dropped: dropped, expert_no_op: noOp } = row;
  if (typeof load !== 'string' || typeof dropped !== 'number') return '';
  const [most] = load.split(' ').map(Number) as [number];
  const passing = typeof noOp === 'number' ? `, ${percent(noOp)} choose a no-op` : '';
  return ` In its best run the busiest expert of a block is chosen by ${percent(most)} of the tokens, ${percent(dropped)} find no free slot${passing}.`;
}

/** `runsTable` with additional columns about experts. */
function expertsTable(runs: readonly DoneRun[]): DataTable {
  const { head, rows } = runsTable(runs);
  return {
    head: [...head, 'active parameters', 'load of each expert', 'dropped', 'no-op'],
    rows: rows.map((cells, i) => {
      const { params_active, expert_load, expert_dropped, expert_no_op } = (runs[i] as DoneRun).row;
      return [
        ...cells,
        params_active ?? null,
        expert_load ?? null,
        expert_dropped ?? null,
        expert_no_op ?? null,
      ];
    }),
  };
}

function isoflopReading(budget: BudgetStudy): string {
  const { baseline, mod, curves, noise } = budget;
  const random = leastLoss(curves.filter(({ setting }) => setting.variant === 'random'));
  if (baseline === null || mod === null) {
    const best = leastLoss(curves) as Curve;
    return `At ${budgetName(budget.budget)} FLOPs the lowest loss is ${best.optimum.loss.toFixed(4)} nats, ${best.setting.name}.`;
  }
  const dense =
    random &&
    leastLoss(
      trainedAlike(
        curves.filter(({ setting }) => setting.variant === 'baseline'),
        random,
      ),
    );
  const worse =
    random === null || dense === null
      ? ''
      : `; random routing against ${dense === baseline ? 'the best dense model' : dense.setting.name}: ${differenceText(lossDifference(random, dense, noise))}`;
  const found = lossDifference(mod, baseline, noise);
  const gain = isUnknown(found)
    ? `whether the optimal MoD beats the optimal dense model is ${differenceText(found)}`
    : `the best MoD, ${mod.setting.name}, is at ${mod.optimum.loss.toFixed(4)} nats with ${significant(mod.optimum.params / baseline.optimum.params)} times the parameters of the best dense model, ${differenceText(found)}, MoD minus dense`;
  return `At ${budgetName(budget.budget)} FLOPs ${gain}${worse}.${bestModels(budget)}`;
}

/** The models with the lowest loss, which need not be on the curves of their kind. */
function bestModels({ alike, noise }: BudgetStudy): string {
  const [mod, dense] = [bestModel(alike, 'mod'), bestModel(alike, 'baseline')];
  if (mod === null || dense === null) return '';
  const loss = (model: SizeMean) => `${modelName(model)} at ${model.loss.toFixed(4)}`;
  return ` Seeds averaged, the best models are ${loss(mod)} and ${loss(dense)}: ${differenceText(modelDifference(mod, dense, noise))}.`;
}

/** The note about optima that are not known. */
function unknown({ alike }: BudgetStudy): string {
  const reasons = alike.flatMap(({ optimum, doubt, ...curve }) =>
    isExpert({ ...curve, optimum, doubt }) || optimum.from === 'fit' || doubt === null ? [] : [doubt.reason],
  );
  return reasons.length === 0 ? '' : `Not known, and without a ring: ${reasons.join('; ')}.`;
}

/** Marks a loss that is that of a model, as the optimum is not known. */
const modelNote = ({ optimum, best }: Curve) => (optimum.from === 'fit' ? '' : ` (${modelName(best)})`);

function against(curve: Curve, { baseline, noise }: BudgetStudy, what: string): string {
  return baseline === null
    ? ''
    : `, against ${what}: ${differenceText(lossDifference(curve, baseline, noise))}`;
}

function curvesFigure(
  about: Pick<Figure, 'id' | 'title' | 'paper' | 'reading' | 'notes'>,
  curves: readonly Curve[],
  styles: Styles,
  wide = false,
): Figure {
  const styleOf = ({ setting }: Curve) => styles.get(setting.key) as Style;
  const settings = [...new Map(curves.map(({ setting }) => [setting.key, setting])).values()];
  const lossesOf = (some: readonly Curve[]) => some.flatMap(({ runs }) => runs.map(({ loss }) => loss));
  const leading = curves.filter(({ setting }) => setting.variant === 'baseline' || setting.variant === 'mod');
  const runs = lossFrame(lossesOf(curves), lossesOf(leading));
  // An optimum may be below all runs.
  const bottom = Math.min(
    runs.domain[0],
    ...curves.flatMap(({ optimum: { from, loss } }) =>
      from === 'fit' ? [loss - 0.04 * (runs.domain[1] - loss)] : [],
    ),
  );
  const frame: LossFrame = { ...runs, domain: [bottom, runs.domain[1]] };
  const [low, top] = frame.domain;
  const { domain, place } = withStrip(frame);
  const inFrame = ({ y }: { y: number }) => y <= top;
  const optima = curves.filter(({ optimum }) => optimum.from === 'fit' && optimum.loss <= top);
  const sizes = curves.flatMap(({ runs }) => runs.map(({ row }) => row.params_total));
  const [smallest, largest] = [Math.min(...sizes), Math.max(...sizes)];
  const marks = curves.flatMap((curve) => {
    const { color, symbol, dash } = styleOf(curve);
    const className = seriesClass(curve.setting.shortLabel);
    const line = {
      x: 'x',
      y: 'y',
      stroke: color,
      className,
      ...(dash === '' ? {} : { strokeDasharray: dash }),
    };
    const point = {
      x: ({ row }: DoneRun) => row.params_total,
      y: ({ loss }: DoneRun) => place(loss),
      r: 4,
      symbol,
      className,
      title: runTitle,
    };
    return [
      known(curve)
        ? Plot.line(sampled(curve).filter(inFrame), { ...line, strokeWidth: 1.75 })
        : Plot.line(meanBySize(curve).filter(inFrame), { ...line, strokeWidth: 1, strokeOpacity: 0.6 }),
      Plot.dot(
        curve.runs.filter(({ loss }) => loss <= top),
        { ...point, fill: color, fillOpacity: 0.85 },
      ),
      Plot.dot(
        curve.runs.filter(({ loss }) => loss > top),
        { ...point, stroke: color },
      ),
    ];
  });
  const symbols: LegendEntry[] = [
    ...(optima.length === 0
      ? []
      : [{ label: 'optimum, 95% interval', color: 'currentColor', symbol: 'circle', hollow: true } as const]),
    ...(curves.every(known) ? [] : [{ label: 'thin: means, no fit', color: 'currentColor', thin: true }]),
  ];
  const svg = draw({
    title: about.title,
    description:
      'Held-out loss in nats per token against total parameters, one point per run. Rings: optima of the fits with 95% intervals.',
    legend: [...legendOf(settings, styles), ...symbols],
    ...(wide ? { width: WIDE, height: 460 } : {}),
    plot: {
      ...(wide ? { marginRight: LABEL_MARGIN } : {}),
      x: {
        type: 'log',
        label: 'parameters',
        tickFormat: shortCount,
        ticks: logTicks(smallest, largest),
        domain: [smallest / 1.05, largest * 1.05],
      },
      y: {
        label: 'held-out loss, nats per token',
        grid: true,
        domain,
        ticks: linearTicks(low, top, 6),
      },
      marks: [
        ...stripMarks(frame),
        ...marks,
        ...optima.flatMap((curve) => optimumMarks(curve, styleOf(curve).color, [low, top])),
        ...(wide ? endLabels(curves, styles, [low, top], largest * 1.05) : []),
      ],
    },
  });
  const surfaces = curves.some((curve) => known(curve) && curve.fit.kind === 'size and depth')
    ? 'Lines: the lowest loss of each size over the depths that were trained for it.'
    : '';
  const notes = sentences(about.notes ?? '', surfaces);
  return { ...about, notes, svg, table: runsTable(curves.flatMap(({ runs }) => runs)), wide };
}

/** Pixels: the width of a figure across the page, and the space for labels at the ends of its curves. */
const WIDE = 940;
const LABEL_MARGIN = 190;
/** The least distance of two labels, as a share of the height of a wide figure. */
const LABEL_GAP = 0.042;

/** The name of each curve at its right end, moved apart where curves end close together. */
function endLabels(
  curves: readonly Curve[],
  styles: Styles,
  [low, top]: Interval,
  right: number,
): Plot.Markish[] {
  const ends = curves.flatMap((curve) => {
    const line = (known(curve) ? sampled(curve) : meanBySize(curve)).filter(({ y }) => y <= top);
    const end = line.reduce<{ x: number; y: number } | null>(
      (a, b) => (a !== null && a.x > b.x ? a : b),
      null,
    );
    return end === null ? [] : [{ ...end, setting: curve.setting, at: end.y }];
  });
  ends.sort((a, b) => a.y - b.y);
  const gap = LABEL_GAP * (top - low);
  ends.forEach((end, i) => {
    end.at = Math.max(end.at, low + gap / 2, (ends[i - 1]?.at ?? Number.NEGATIVE_INFINITY) + gap);
  });
  // Labels that were pushed above the frame move down again.
  ends.forEach((_, j) => {
    const i = ends.length - 1 - j;
    const end = ends[i] as (typeof ends)[number];
    end.at = Math.min(end.at, (ends[i + 1]?.at ?? top + gap) - gap);
  });
  return ends.flatMap((end) => {
    const { color } = styles.get(end.setting.key) as Style;
    const className = seriesClass(end.setting.shortLabel);
    return [
      Plot.link([end], {
        x1: 'x',
        y1: 'y',
        x2: () => right,
        y2: 'at',
        stroke: color,
        strokeOpacity: 0.45,
        strokeWidth: 0.75,
        className,
      }),
      Plot.text([end], {
        x: () => right,
        y: 'at',
        text: () => end.setting.name,
        textAnchor: 'start',
        dx: 6,
        className,
      }),
    ];
  });
}

const known = ({ fit }: Curve) => isKnown(fit);

const sampled = ({ fit }: Curve) => fit.line.map(({ params, loss }) => ({ x: params, y: loss }));

function meanBySize({ runs }: Curve): { x: number; y: number }[] {
  const sizes = [...new Set(runs.map(({ row }) => row.params_total))].sort((a, b) => a - b);
  return sizes.map((x) => {
    const losses = runs.filter(({ row }) => row.params_total === x).map(({ loss }) => loss);
    return { x, y: mean(losses) };
  });
}

/** A ring with its intervals, clipped to the frame. */
function optimumMarks(
  { optimum, setting, budget }: Curve,
  color: string,
  [bottom, top]: Interval,
): Plot.Markish[] {
  const { params: x, loss: y } = optimum;
  const title = `optimum of ${setting.name} at ${budgetName(budget)}\n${withInterval(x, optimum.paramsInterval, shortCount)} parameters\nloss ${withInterval(y, optimum.lossInterval, (loss) => loss.toFixed(4))}`;
  const bar = { stroke: color, strokeWidth: 1.5, strokeOpacity: 0.8 };
  return [
    ...(optimum.paramsInterval === null
      ? []
      : [
          Plot.ruleY([optimum.paramsInterval], {
            y: () => y,
            x1: (d) => d[0],
            x2: (d) => d[1],
            ...bar,
          }),
        ]),
    ...(optimum.lossInterval === null
      ? []
      : [
          Plot.ruleX([optimum.lossInterval], {
            x: () => x,
            y1: (d) => Math.max(d[0], bottom),
            y2: (d) => Math.min(d[1], top),
            ...bar,
          }),
        ]),
    Plot.dot([{ x, y }], { x: 'x', y: 'y', r: 6.5, stroke: color, strokeWidth: 2, title: () => title }),
  ];
}

/** The tooltip of a run. */
export function runTitle(run: DoneRun): string {
  const { row, loss } = run;
  const text = [
    modelName(run),
    `seed ${row.seed}, ${budgetName(row.flop_budget)} FLOPs`,
    `${shortCount(row.params_total)} parameters, ${budgetName(row.flops_per_pass)} FLOPs per pass`,
    `loss ${loss.toFixed(4)}`,
    ...(row.step_ms === null ? [] : [`step ${significant(row.step_ms)} ms`]),
  ].join('\n');
  return ofRun(row.run_id, text);
}

/** The runs of a figure as a table. */
export function runsTable(runs: readonly DoneRun[]): DataTable {
  return {
    head: ['run', 'setting', 'parameters', 'FLOPs per pass', 'loss', 'step ms'],
    rows: runs.map(({ row, setting, loss }) => [
      row.run_id,
      setting.name,
      row.params_total,
      row.flops_per_pass,
      loss,
      row.step_ms,
    ]),
  };
}
