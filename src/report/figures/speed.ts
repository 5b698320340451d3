/** Step time and FLOPs per pass: side by side for chosen models, and over all runs (figure 3, right). */
import * as Plot from '@observablehq/plot';
import { linearFit } from '../../statistics.js';
import { chosenModels, shownBudget } from '../chosen.js';
import { fastestAsGood } from '../claims/speed.js';
import { differenceText, modelDifference } from '../differences.js';
import { groupBy } from '../group.js';
import { modelName } from '../settings.js';
import { machineOf, stepTimes } from '../step-time.js';
import type { DoneRun, SizeMean, Study } from '../study.js';
import { budgetName, significant } from '../words.js';
import { draw, type Figure, logTicks, type MissingFigure, seriesClass } from './figure.js';
import { runsTable, runTitle } from './isoflop.js';
import type { Style } from './style.js';

type Styles = ReadonlyMap<string, Style>;

/** Figure 3, right. */
export function speedFigure({ budgets }: Study, styles: Styles): Figure | MissingFigure {
  const title = 'FLOPs per pass and step time of chosen models';
  const paper = 'figure 3, right';
  const budget = shownBudget(budgets);
  const models = budget === null ? [] : chosenModels(budget);
  const [reference] = models;
  if (budget === null || reference === undefined || models.length < 2) {
    return { title, paper, needs: 'Needs dense and MoD runs.' };
  }
  const base = reference.run;
  const bars = models.flatMap(({ role, run }, i) => {
    const flops = run.row.flops_per_pass / base.row.flops_per_pass;
    const time = stepRatio(run, base);
    const name = `${i + 1}. ${role}`;
    return [
      { name, run, what: 'FLOPs per pass', value: flops, opacity: 0.45 },
      ...(time === null ? [] : [{ name, run, what: 'step time', value: time, opacity: 0.95 }]),
    ];
  });
  const color = (run: DoneRun) => (styles.get(run.setting.key) as Style).color;
  const widest = Math.max(...bars.map(({ value }) => value));
  const svg = draw({
    title,
    description: `FLOPs per pass and step time over those of the ${reference.role} model, at ${budgetName(budget.budget)} FLOPs.`,
    legend: [],
    height: 72 + 64 * models.length,
    plot: {
      marginLeft: 16,
      marginTop: 24,
      x: { label: `over the ${reference.role} model`, domain: [0, 1.3 * widest], ticks: 5, grid: true },
      y: { axis: null, padding: 0.12 },
      fy: { axis: null, domain: models.map(({ role }, i) => `${i + 1}. ${role}`), padding: 0.32 },
      marks: [
        Plot.barX(bars, {
          x: 'value',
          y: 'what',
          fy: 'name',
          fill: ({ run }) => color(run),
          fillOpacity: 'opacity',
          title: ({ run, what, value }) =>
            `${runTitle(run)}\n${what} ${significant(value)} of the ${reference.role} model’s`,
        }),
        Plot.text(bars, {
          x: 'value',
          y: 'what',
          fy: 'name',
          text: ({ value, what }) => `${significant(value)} ${what}`,
          textAnchor: 'start',
          dx: 5,
        }),
        Plot.text(models, {
          fy: ({ role }: { role: string }) => `${models.findIndex((one) => one.role === role) + 1}. ${role}`,
          frameAnchor: 'top-left',
          dy: -14,
          lineWidth: 36,
          textOverflow: 'ellipsis',
          text: ({ role, run }) => `${role}: ${modelName(run)}`,
        }),
        Plot.ruleX([0]),
        Plot.ruleX([1], { strokeOpacity: 0.35 }),
      ],
    },
  });
  const fast = fastestAsGood(budget);
  const reading =
    fast === null
      ? 'No MoD model is as good as the best dense one and has a step time that can be compared with it.'
      : `The fastest MoD model whose loss is no higher than that of the best dense one steps ${significant(fast.speedup)} times as fast, its loss ${differenceText(modelDifference(fast.run, fast.baseline, budget.noise))}.`;
  const rows = bars.map(({ run, what, value }) => [run.row.run_id, what, value]);
  const table = { head: ['run', 'what', `over ${base.row.run_id}`], rows };
  return { id: 'speed', title, paper, reading, svg, table, wide: false };
}

function stepRatio(run: SizeMean, base: SizeMean): number | null {
  const times = stepTimes(run.all, base.all);
  return times === null ? null : times.times[0] / times.times[1];
}

/** Not in the paper: whether step time follows FLOPs, over the runs of the machine that has most of them. */
export function stepTimeFigure({ done }: Study, styles: Styles): Figure | MissingFigure {
  const title = 'Step time against FLOPs per step';
  const machines = groupBy(
    done.filter(({ row }) => row.step_ms !== null),
    machineOf,
  );
  const [timed = []] = [...machines.values()].sort((a, b) => b.length - a.length);
  if (timed.length < 2) return { title, paper: null, needs: 'Needs runs with step times.' };
  const points = timed.map((run) => ({
    run,
    x: 3 * run.row.batch_sequences * run.row.flops_per_pass,
    y: run.row.step_ms as number,
  }));
  const ends = (axis: 'x' | 'y'): [number, number] => {
    const values = points.map((point) => point[axis]);
    return [Math.min(...values), Math.max(...values)];
  };
  const powerOf = (variant: 'baseline' | 'mod', name: string) => {
    const of = points.filter(({ run }) => run.row.variant === variant);
    const logs = (key: 'x' | 'y') => of.map((point) => Math.log10(point[key]));
    const { slope } = linearFit(logs('x'), logs('y'));
    return Number.isFinite(slope) ? [`${significant(slope)} in ${of.length} ${name} runs`] : [];
  };
  const powers = [...powerOf('baseline', 'dense'), ...powerOf('mod', 'MoD')];
  // By routing setting: step time does not depend on the learning rate and the like.
  const settings = groupBy(points, ({ run }) => run.setting.shortLabel);
  const styleOf = (key: string) => styles.get(key) as Style;
  const svg = draw({
    title,
    description:
      'Median step time in milliseconds against the FLOPs of a step, both logarithmic, one point per run.',
    legend: [...settings].map(([series, [{ run }]]) => {
      const { color, symbol } = styleOf(run.setting.key);
      return { label: run.setting.name, series, color, symbol };
    }),
    plot: {
      x: {
        type: 'log',
        label: 'FLOPs per step',
        tickFormat: (value: number) => budgetName(value),
        ticks: logTicks(...ends('x'), 5),
      },
      y: { type: 'log', label: 'step, ms', grid: true, tickFormat: '~s', ticks: logTicks(...ends('y')) },
      marks: [...settings.values()].map((ofSetting) => {
        const { color, symbol } = styleOf(ofSetting[0].run.setting.key);
        const title = ({ run }: (typeof points)[number]) => runTitle(run);
        const className = seriesClass(ofSetting[0].run.setting.shortLabel);
        return Plot.dot(ofSetting, {
          className,
          x: 'x',
          y: 'y',
          r: 4,
          fill: color,
          fillOpacity: 0.85,
          symbol,
          title,
        });
      }),
    },
  });
  const { device } = (timed[0] as DoneRun).row;
  const on = device === null ? '' : ` on ${device}`;
  const reading =
    powers.length === 0
      ? `Step times of ${timed.length} runs${on}.`
      : `Step time grows as FLOPs to the power ${powers.join(', ')}${on}.`;
  return { id: 'step-time', title, paper: null, reading, svg, table: runsTable(timed), wide: false };
}
