/** One loss surface for dense and MoD models of all budgets: how many dense parameters a routed one replaces. */
import { type ModelConfig, routedBlocks } from '../model/config.js';
import type { RandomStream } from '../random.js';
import type { LoadedRun } from '../results/load.js';
import { mean, quantile } from '../statistics.js';
import type { Interval } from './curve-fit.js';
import { groupBy } from './group.js';
import { minimize, type Objective, ROUGH } from './minimize.js';
import type { Setting } from './settings.js';

/**
 * L = E + A / N^alpha + B / D^beta, D the training tokens, N = (N_full + kappa · N_routed) · (depth / width)^delta: parameters of
 * routed blocks count as a share kappa, one for each routing setting.
 */
export interface JointLaw {
  E: number;
  A: number;
  B: number;
  alpha: number;
  beta: number;
  /** Of depth over width, relative to the mean of the runs. */
  delta: number;
  deltaInterval: Interval | null;
  kappas: Kappa[];
  runs: number;
  /** Root mean square of the relative error. */
  rmsError: number;
  /** Relative error of each run: observed over predicted, minus 1. */
  residuals: ReadonlyMap<LawRun, number>;
  /** The law's loss of a model. */
  lossOf: (model: Sized) => number;
  /** The same by the laws of resampled shapes. */
  resampledLosses: (model: Sized) => number[];
}

/** What the loss of a model depends on: its shape and routing, by the index of `kappas`, −1 for dense, and its tokens. */
export interface Sized {
  params: number;
  routed: number;
  setting: number;
  d_model: number;
  n_layers: number;
  tokens: number;
}

/** Parameters of the routed blocks of a model. */
export const routedParams = (model: ModelConfig): number =>
  routedBlocks(model).length * (4 * model.d_model ** 2 + 2 * model.d_model * model.d_ff);

/** What the law needs of a run. */
export interface LawRun extends LoadedRun {
  loss: number;
  setting: Setting;
  cell: string;
}

export interface Kappa {
  /** The routing setting: `MoD 12.5%, every other block`. */
  label: string;
  capacity: number;
  value: number;
  /** 95%, shapes resampled; null if a resample could not be fitted. */
  interval: Interval | null;
}

const HUBER_DELTA = 1e-3;
const RESAMPLES = 60;
/** The law of dense models has six unknowns, and each routing setting one more. */
const MIN_SHAPES = 12;
const SETTING_SHAPES = 3;

/** The seeds of one shape at one budget, as their mean. */
interface Point {
  runs: readonly LawRun[];
  budget: number;
  full: number;
  routed: number;
  /** Index of the routing setting; −1 for dense models. */
  setting: number;
  shape: number;
  logTokens: number;
  loss: number;
}

/**
 * Of runs that are trained alike, by the Huber loss of relative errors (Hoffmann et al. 2022, approach 3), with E, A and B projected out: for given exponents
 * they are the solution of a linear problem (variable projection, Golub and Pereyra 1973), so that the search is over few
 * unknowns. Null for fewer than two budgets or twelve shapes, or without a MoD setting of three shapes.
 */
export function fitJointLaw(runs: readonly LawRun[], random: RandomStream): JointLaw | null {
  const { points, labels, center } = pointsOf(runs);
  const known = new Set(points.map(({ budget }) => budget)).size;
  if (known < 2 || points.length < MIN_SHAPES || labels.length === 0) return null;
  const best = STARTS.map((start) =>
    minimize(objectiveOf(points), [...start, ...labels.map(() => 0.5)]),
  ).reduce((least, one) => (one.value < least.value ? one : least));
  const found = unpack(best.x);
  const [E, A, B] = project(points, found).linear;
  const resampled = Array.from({ length: RESAMPLES }, () => {
    const drawn = points.map(() => points[Math.floor(random.uniform() * points.length)] as Point);
    const exponents = unpack(minimize(objectiveOf(drawn), best.x, ROUGH).x);
    return { ...exponents, linear: project(drawn, exponents).linear };
  });
  const middle = (values: readonly number[]): Interval | null =>
    values.every(Number.isFinite) ? [quantile(values, 0.025), quantile(values, 0.975)] : null;
  const predicted = points.map((point) => lossOf(point, found, [E, A, B]));
  const residuals = new Map(
    points.flatMap((point, i) =>
      point.runs.map((run): [LawRun, number] => [run, run.loss / (predicted[i] as number) - 1]),
    ),
  );
  const errors = [...residuals.values()];
  const { alpha, beta, delta } = found;
  return {
    E,
    A,
    B,
    alpha,
    beta,
    delta,
    deltaInterval: middle(resampled.map((one) => one.delta)),
    kappas: labels.map(({ label, capacity }, i) => ({
      label,
      capacity,
      value: found.kappas[i] as number,
      interval: middle(resampled.map((one) => one.kappas[i] as number)),
    })),
    runs: residuals.size,
    rmsError: Math.sqrt(errors.reduce((sum, one) => sum + one * one, 0) / errors.length),
    residuals,
    lossOf: (model) => lossOf(termsOf(model, center), found, [E, A, B]),
    resampledLosses: (model) => resampled.map((one) => lossOf(termsOf(model, center), one, one.linear)),
  };
}

/** Dense models and learned MoD with blocks that process every token: without any, models learn another law. */
function pointsOf(all: readonly LawRun[]) {
  const runs = all.filter(
    ({ setting: { variant, frequency, gate, aux_loss_weight } }) =>
      variant === 'baseline' ||
      (variant === 'mod' && gate === 'raw' && aux_loss_weight === 0 && (frequency ?? 1) > 1),
  );
  const shapes = (of: readonly LawRun[]) =>
    new Set(of.map(({ row, cell }) => `${row.flop_budget} ${cell}`)).size;
  const labels = [
    ...groupBy(
      runs.filter(({ setting }) => setting.variant === 'mod'),
      ({ setting }) => setting.shortLabel,
    ),
  ]
    .filter(([, of]) => shapes(of) >= SETTING_SHAPES)
    .map(([label, [{ setting }]]) => ({ label, capacity: setting.capacity as number }));
  const logShape = ({ row }: LawRun) => Math.log(row.n_layers / row.d_model);
  const center = runs.reduce((sum, run) => sum + logShape(run), 0) / runs.length;
  const cells = groupBy(runs, ({ row, cell }) => `${row.flop_budget} ${cell}`);
  const points = [...cells.values()].flatMap((cell): Point[] => {
    const [run] = cell;
    const { model } = run.spec;
    const setting = labels.findIndex(({ label }) => label === run.setting.shortLabel);
    if (setting < 0 && run.setting.variant !== 'baseline') return [];
    const routed = routedParams(model);
    return [
      {
        runs: cell,
        budget: run.row.flop_budget,
        full: run.row.params_total - routed,
        routed,
        setting,
        shape: logShape(run) - center,
        logTokens: Math.log(run.row.tokens),
        loss: mean(cell.map(({ loss }) => loss)),
      },
    ];
  });
  return { points, labels, center };
}

/** Exponents alpha, beta and delta to start from. */
const STARTS = [
  [0.3, 0.3, 0],
  [0.5, 0.3, 0],
  [0.3, 0.6, 0],
  [0.7, 0.7, 0],
];

interface Exponents {
  alpha: number;
  beta: number;
  delta: number;
  kappas: number[];
}

/** A kappa is a square, so that it is not negative. */
function unpack([alpha, beta, delta, ...roots]: readonly number[]): Exponents {
  return {
    alpha: alpha as number,
    beta: beta as number,
    delta: delta as number,
    kappas: roots.map((root) => root * root),
  };
}

const logSize = ({ full, routed, setting, shape }: Terms, { delta, kappas }: Exponents) =>
  Math.log(full + (setting < 0 ? 0 : (kappas[setting] as number)) * routed) + delta * shape;

/** Powers are taken relative to these, so that the linear problem has numbers of order 1. */
const [SIZE_UNIT, TOKEN_UNIT] = [Math.log(1e6), Math.log(1e8)];

/** The powers of size and tokens, and the best E, A and B for them, in the units above. */
interface Projected {
  bySize: Float64Array;
  byTokens: Float64Array;
  linear: Vector;
}
type Vector = [number, number, number];

/** The best E, A and B for given exponents, by reweighted least squares. Called very often, so it allocates little. */
function projected(points: readonly Point[], found: Exponents): Projected {
  const n = points.length;
  const [bySize, byTokens] = [new Float64Array(n), new Float64Array(n)];
  points.forEach((point, i) => {
    bySize[i] = Math.exp(-found.alpha * (logSize(point, found) - SIZE_UNIT));
    byTokens[i] = Math.exp(-found.beta * (point.logTokens - TOKEN_UNIT));
  });
  let linear: Vector = [0, 0, 0];
  for (let round = 0; round <= REWEIGHTINGS; round++) {
    let [ww, wu, wv, uu, uv, vv, yw, yu, yv] = [0, 0, 0, 0, 0, 0, 0, 0, 0];
    const [e, a, b] = linear;
    for (let i = 0; i < n; i++) {
      const [u, v, { loss, runs }] = [bySize[i] as number, byTokens[i] as number, points[i] as Point];
      const error = round === 0 ? 0 : Math.abs((e + a * u + b * v) / loss - 1);
      const w = (runs.length * (error <= HUBER_DELTA ? 1 : HUBER_DELTA / error)) / (loss * loss);
      ww += w;
      wu += w * u;
      wv += w * v;
      uu += w * u * u;
      uv += w * u * v;
      vv += w * v * v;
      yw += w * loss;
      yu += w * loss * u;
      yv += w * loss * v;
    }
    const solved = solve([ww, wu, wv], [wu, uu, uv], [wv, uv, vv], [yw, yu, yv]);
    if (solved === null) break;
    linear = solved;
  }
  return { bySize, byTokens, linear };
}

const REWEIGHTINGS = 6;

/** Cramer's rule for rows p, q, r; null if they are dependent. */
function solve(p: Vector, q: Vector, r: Vector, y: Vector): Vector | null {
  const cross = (a: Vector, b: Vector): Vector => [
    a[1] * b[2] - a[2] * b[1],
    a[2] * b[0] - a[0] * b[2],
    a[0] * b[1] - a[1] * b[0],
  ];
  const [qr, rp, pq] = [cross(q, r), cross(r, p), cross(p, q)];
  const determinant = p[0] * qr[0] + p[1] * qr[1] + p[2] * qr[2];
  if (Math.abs(determinant) < 1e-14 * p[0] * q[1] * r[2]) return null;
  return [0, 1, 2].map(
    (i) => (y[0] * (qr[i] as number) + y[1] * (rp[i] as number) + y[2] * (pq[i] as number)) / determinant,
  ) as Vector;
}

/** E, A and B in the law's own units. */
function project(points: readonly Point[], found: Exponents): { linear: Vector } {
  const [e, a, b] = projected(points, found).linear;
  return { linear: [e, a * Math.exp(found.alpha * SIZE_UNIT), b * Math.exp(found.beta * TOKEN_UNIT)] };
}

/** What a loss depends on, in the law's terms. */
type Terms = Omit<Point, 'runs' | 'budget' | 'loss'>;

const termsOf = ({ params, routed, setting, d_model, n_layers, tokens }: Sized, center: number): Terms => ({
  full: params - routed,
  routed,
  setting,
  shape: Math.log(n_layers / d_model) - center,
  logTokens: Math.log(tokens),
});

const lossOf = (point: Terms, found: Exponents, [E, A, B]: Vector): number =>
  E + A * Math.exp(-found.alpha * logSize(point, found)) + B * Math.exp(-found.beta * point.logTokens);

/** Of alpha, beta, delta and the roots of the kappas; by the envelope theorem the gradient is that at fixed E, A and B. */
function objectiveOf(points: readonly Point[]): Objective {
  return (x) => {
    const found = unpack(x);
    const { linear, bySize: sizes, byTokens } = projected(points, found);
    const [e, a, b] = linear;
    let value = 0;
    const gradient = x.map(() => 0);
    points.forEach((point, i) => {
      const [u, v] = [sizes[i] as number, byTokens[i] as number];
      const error = ((e + a * u + b * v) / point.loss - 1) / HUBER_DELTA;
      const seeds = point.runs.length;
      value += seeds * (Math.abs(error) <= 1 ? 0.5 * error * error : Math.abs(error) - 0.5);
      const slope = (seeds * Math.max(-1, Math.min(1, error))) / HUBER_DELTA / point.loss;
      const size = logSize(point, found) - SIZE_UNIT;
      const bySize = -slope * a * found.alpha * u;
      gradient[0] = (gradient[0] as number) - slope * a * u * size;
      gradient[1] = (gradient[1] as number) - slope * b * v * (point.logTokens - TOKEN_UNIT);
      gradient[2] = (gradient[2] as number) + bySize * point.shape;
      if (point.setting < 0) return;
      const at = 3 + point.setting;
      const root = x[at] as number;
      gradient[at] =
        (gradient[at] as number) +
        (bySize * point.routed * 2 * root) / (point.full + root * root * point.routed);
    });
    // Bends towards exponents that a law can have: with none, a resample may let one vanish.
    const far = [x[0] as number, x[1] as number].map((one) => Math.max(0, 0.02 - one, one - 3));
    far.forEach((one, i) => {
      value += points.length * PENALTY * one * one;
      gradient[i] =
        (gradient[i] as number) + 2 * points.length * PENALTY * one * ((x[i] as number) < 0.02 ? -1 : 1);
    });
    return { value: value / points.length, gradient: gradient.map((one) => one / points.length) };
  };
}

const PENALTY = 1e4;
