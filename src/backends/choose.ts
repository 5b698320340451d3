/** Which backend runs the ops: the one that was asked for, or the first that works on this machine. */
import { cpus } from 'node:os';
import { InputError, messageOf } from '../errors.js';
import type { BackendName, Precision } from '../plan/run.js';
import { gpuName } from './tensorflow/device.js';
import { startTensorflow } from './tensorflow/start.js';
import { startWasm } from './wasm/start.js';

export interface ChosenBackend {
  name: BackendName;
  /** What computes: a GPU's or a CPU's name. */
  device: string;
  precision: 'fp32' | 'bf16';
  /** Backends that `auto` would have preferred, and why each does not work here. */
  rejected: { name: BackendName; reason: string }[];
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

/** A CPU's name, as the operating system gives it. */
export function cpuName(): string {
  return cpus()[0]?.model.trim() || 'CPU';
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
      return { name, ...(await start(precision)), rejected };
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
