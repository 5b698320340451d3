/** The page's tables of fits and of runs that are left out. */
import { pText } from './doubts.js';
import type { DataTable } from './figures/figure.js';
import { exponent } from './figures/scaling.js';
import type { PowerLaw } from './power-law.js';
import type { Study } from './study.js';
import { budgetName, shortCount, significant, withInterval } from './words.js';

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

/** One row per run that is not used. */
export function leftOutTable({ leftOut }: Study): DataTable {
  return {
    head: ['sweep', 'run', 'status', 'why'],
    rows: leftOut.map(({ sweep, run_id, status, reason }) => [sweep, run_id, status, reason]),
  };
}
