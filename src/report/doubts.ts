/** Why no verdict may rest on an optimum, and the runs that would change that. */
import { counted } from '../format.js';
import type { LoadedRun } from '../results/load.js';
import { NEEDED_FREEDOM } from './estimate.js';
import { type Fit, lacksFit } from './fits.js';
import { shortCount } from './words.js';

export interface Doubt {
  /** `the optimum of dense is below its smallest size, 820k parameters` */
  reason: string;
  /** `train smaller models of it, of about 400k and 600k parameters` */
  remedy: string;
}

/** Fewer held-out sequences than this measure the text that they happen to contain. */
const ENOUGH_SEQUENCES = 64;
/** Shorter runs end within the first fall of their loss. */
const ENOUGH_STEPS = 200;

/** The first doubt about a curve's optimum; null for none. */
export function doubtOf(label: string, fit: Fit, best: LoadedRun): Doubt | null {
  return doubtOfRuns(label, best) ?? doubtOfFit(label, fit);
}

/** Doubts about all losses of a setting, which differences between single models share. */
export function doubtOfRuns(label: string, best: LoadedRun): Doubt | null {
  const sequences =
    best.evaluations.find(({ routing }) => routing === 'topk')?.sequences ?? best.spec.evaluation.sequences;
  if (sequences < ENOUGH_SEQUENCES) {
    return {
      reason: `the losses of ${label} are of ${counted(sequences, 'held-out sequence')}, fewer than ${ENOUGH_SEQUENCES}`,
      remedy: 'more held-out text, or a larger evaluation.sequences',
    };
  }
  if (best.row.steps < ENOUGH_STEPS) {
    return {
      reason: `the best model of ${label} was trained for ${counted(best.row.steps, 'step')}, fewer than ${ENOUGH_STEPS}`,
      remedy: 'a larger budget, or a smaller batch_sequences',
    };
  }
  return null;
}

const size = (params: number) => `${shortCount(params)} parameters`;

function doubtOfFit(label: string, fit: Fit): Doubt | null {
  const { state, line, sizes } = fit;
  const [low, high] = [line[0]?.params ?? 0, line.at(-1)?.params ?? 0];
  if (state === 'too-few') {
    return {
      reason: `${label} has ${counted(sizes, 'size')} of the three that a fit needs`,
      remedy: `${counted(Math.max(1, 4 - sizes), 'more size')} of it`,
    };
  }
  if (state === 'below') {
    return {
      reason: `the optimum of ${label} is below its smallest size, ${size(low)}`,
      remedy: `smaller models of it, of about ${size(low / 2)} and ${size(low / 1.4)}`,
    };
  }
  if (state === 'above') {
    return {
      reason: `the optimum of ${label} is above its largest size, ${size(high)}`,
      remedy: `larger models of it, of about ${size(high * 1.4)} and ${size(high * 2)}`,
    };
  }
  if (state === 'no-minimum') {
    return {
      reason: `the losses of ${label} do not bend upwards`,
      remedy: `sizes of it over a wider range than ${size(low)} to ${size(high)}, and more seeds`,
    };
  }
  if (fit.lackOfFit !== null && lacksFit(fit.lackOfFit)) {
    return {
      reason: `the shapes of ${label} deviate from its fit by more than its seeds differ (lack of fit, ${pText(fit.lackOfFit.p)})`,
      remedy: `more shapes of it near ${size(fit.minimum?.params ?? low)}, several depths at each width`,
    };
  }
  if (fit.freedom < NEEDED_FREEDOM) {
    return {
      reason: `the uncertainty of ${label} is unknown: ${counted(Math.floor(fit.freedom), 'degree')} of freedom`,
      remedy: 'a second seed of every size, or two more sizes of each setting',
    };
  }
  return null;
}

/** `p = 0.03`, `p < 0.001` */
export const pText = (p: number): string => (p < 0.001 ? 'p < 0.001' : `p = ${Number(p.toPrecision(2))}`);
