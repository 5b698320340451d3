/** Compares step times: measured on one machine by one version of the program, with their spread over steps and seeds. */
import { mean } from '../statistics.js';
import type { Unknown } from './differences.js';
import { type Estimate, sumOf, type Variance } from './estimate.js';
import { groupBy } from './group.js';
import type { DoneRun } from './study.js';

/** A key for what determines step time apart from the model: device, backend, precision, batch and sequence length. */
export function machineOf({ row }: DoneRun): string {
  return [row.device, row.backend, row.precision, row.batch_sequences, row.sequence_length].join(' ');
}

/** Whether the step times of two runs can be compared. */
export const sameMachine = (a: DoneRun, b: DoneRun): boolean => machineOf(a) === machineOf(b);

/** The same, trained by one version of the program. */
const conditionsOf = (run: DoneRun) => `${machineOf(run)} ${run.row.git_commit}`;

/** Step times of two models in milliseconds, means over their seeds. */
export interface StepTimes {
  times: [number, number];
  /** ln of the first over the second; unknown if they may differ by version, or their spread over steps was not recorded. */
  ratio: Estimate | Unknown;
}

/**
 * The step times on the machine that trained most runs of both, of one version of the program if both have one; null if no
 * machine timed both.
 */
export function stepTimes(a: readonly DoneRun[], b: readonly DoneRun[]): StepTimes | null {
  const alike = mostShared(a, b, conditionsOf);
  if (alike !== null) return { times: [meanMs(alike[0]), meanMs(alike[1])], ratio: ratioOf(...alike) };
  const near = mostShared(a, b, machineOf);
  if (near === null) return null;
  const doubt = {
    reason: 'the step times are of two versions of the program',
    remedy: 'both models trained again by one version',
  };
  return { times: [meanMs(near[0]), meanMs(near[1])], ratio: { doubt } };
}

function mostShared(
  a: readonly DoneRun[],
  b: readonly DoneRun[],
  keyOf: (run: DoneRun) => string,
): [DoneRun[], DoneRun[]] | null {
  const timed = (runs: readonly DoneRun[]) =>
    groupBy(
      runs.filter(({ row }) => row.step_ms !== null),
      keyOf,
    );
  const ofB = timed(b);
  const shared = [...timed(a)].flatMap(([key, first]): [DoneRun[], DoneRun[]][] => {
    const second = ofB.get(key);
    return second === undefined ? [] : [[first, second]];
  });
  return shared.sort(([p, q], [r, s]) => r.length + s.length - p.length - q.length)[0] ?? null;
}

function ratioOf(a: readonly DoneRun[], b: readonly DoneRun[]): StepTimes['ratio'] {
  const value = Math.log(meanMs(a) / meanMs(b));
  const parts = [spreadOf(a), spreadOf(b)];
  if (parts.includes(null)) {
    const doubt = {
      reason: 'the spread of the step times was not recorded',
      remedy: 'the models trained again by this version, which records quartiles (step_ms_q1, step_ms_q3)',
    };
    return { doubt };
  }
  return { value, spread: sumOf(parts as Variance[]) };
}

/** Quartiles of a normal distribution are this many standard deviations apart. */
const QUARTILES = 1.349;

/**
 * The variance of the mean of ln step time. Steps of a run share what else the machine does, so that their spread counts as
 * that of the run; the spread between runs counts where it is larger.
 */
function spreadOf(runs: readonly DoneRun[]): Variance | null {
  const withinRuns = runs.map(({ row }) => {
    const { step_ms_q1: low, step_ms_q3: high } = row;
    return low == null || high == null || !(low > 0) ? null : (Math.log(high / low) / QUARTILES) ** 2;
  });
  if (withinRuns.includes(null)) return null;
  const within = mean(withinRuns as number[]) / runs.length;
  const logs = runs.map(({ row }) => Math.log(row.step_ms as number));
  const center = mean(logs);
  const freedom = runs.length - 1;
  const between =
    freedom === 0 ? 0 : logs.reduce((sum, one) => sum + (one - center) ** 2, 0) / freedom / runs.length;
  return between > within && freedom > 0
    ? { variance: between, freedom }
    : { variance: within, freedom: Math.max(1, Math.min(...runs.map(({ row }) => row.steps)) - 1) };
}

const meanMs = (runs: readonly DoneRun[]) => mean(runs.map(({ row }) => row.step_ms as number));

/** Share of a step's time by which its quartiles differ on a machine that does something else as well. */
const CONTENDED = 0.1;

/** The runs whose steps differ so much in time that the machine must have done something else as well. */
export function contended(runs: readonly DoneRun[]): DoneRun[] {
  return runs.filter(({ row: { step_ms, step_ms_q1, step_ms_q3 } }) =>
    step_ms == null || step_ms_q1 == null || step_ms_q3 == null
      ? false
      : (step_ms_q3 - step_ms_q1) / step_ms > CONTENDED,
  );
}
