/** Which backend runs the ops: the one that was asked for, or the first that works on this machine. */
import { InputError, messageOf } from '../errors.js';
import { cpuName } from '../machine.js';
import type { BackendName, Precision } from '../plan/run.js';
import { installAdvice } from './tensorflow/advice.js';
import { gpuName } from './tensorflow/device.js';
import { startTensorflow } from './tensorflow/start.js';
import { startWasm } from './wasm/start.js';

/** A backend that works here. */
export interface BackendChoice {
  name: BackendName;
  /** What computes: a GPU's or a CPU's name. */
  device: string;
  precision: 'fp32' | 'bf16';
  /** Backends that `auto` would have preferred, and why each does not work here. */
  rejected: { name: BackendName; reason: string }[];
}

/** The backend that computes in this process. */
export interface ChosenBackend extends BackendChoice {
  /** The most memory that this process has held so far: of the GPU where one computes, else of the process. */
  peakMemoryBytes: () => number;
}

/** In the order in which `auto` tries them. */
const STARTERS: { name: BackendName; start: (precision: Precision) => Promise<Started> }[] = [
  { name: 'cuda', start: () => Promise.reject(new Error('this version has no cuda backend')) },
  {
    name: 'tensorflow',
    start: async (asked) => {
      const precision = asked === 'bf16' ? 'bf16' : 'fp32';
      const { onGpu } = await startTensorflow(precision);
      return { device: onGpu ? gpuName() : cpuName(), precision };
    },
  },
  {
    name: 'wasm',
    start: async (asked) => {
      if (asked === 'bf16') throw new Error('it computes in float32 alone; bf16 needs cuda or tensorflow');
      await startWasm();
      return { device: cpuName(), precision: 'fp32' };
    },
  },
];

type Started = Pick<ChosenBackend, 'device' | 'precision'>;

/** What was chosen and, for `auto`, why not what it would have preferred, a line each. */
export function describeBackend({ name, device, precision, rejected }: BackendChoice): string {
  const reasons = rejected.map((other) => `\n  not ${other.name}: ${other.reason}`).join('');
  return `backend ${name} on ${device}, ${precision}${reasons}`;
}

function peakResidentBytes(): number {
  return process.resourceUsage().maxRSS * 1024;
}

/**
 * Makes a backend the active one. `auto`: the first of cuda, tensorflow, wasm that works; a name: that one or an
 * InputError, never another in silence.
 */
export async function chooseBackend(
  requested: BackendName | 'auto',
  precision: Precision,
): Promise<ChosenBackend> {
  const rejected: ChosenBackend['rejected'] = [];
  for (const { name, start } of STARTERS) {
    if (requested !== 'auto' && requested !== name) continue;
    try {
      return { name, ...(await start(precision)), rejected, peakMemoryBytes: peakResidentBytes };
    } catch (error) {
      rejected.push({ name, reason: messageOf(error) });
    }
  }
  const reasons = rejected.map(({ name, reason }) => `${name}: ${reason}`).join('; ');
  throw new InputError(
    requested === 'auto'
      ? `no backend works here: ${reasons}`
      : `the backend that was asked for does not work here: ${reasons}`,
  );
}

/** One backend on this machine, for people who set it up. */
export interface BackendReport {
  name: BackendName;
  usable: boolean;
  /** What would compute; null where it is not usable. */
  device: string | null;
  reason: string | null;
  /** What to install or do, where that would help. */
  advice: string[];
}

/** Starts every backend in turn and tells how that went. */
export async function probeBackends(): Promise<BackendReport[]> {
  const reports: BackendReport[] = [];
  for (const { name, start } of STARTERS) {
    try {
      const { device } = await start('auto');
      reports.push({ name, usable: true, device, reason: null, advice: [] });
    } catch (error) {
      const advice = name === 'tensorflow' ? installAdvice() : [];
      reports.push({ name, usable: false, device: null, reason: messageOf(error), advice });
    }
  }
  return reports;
}
