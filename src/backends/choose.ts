/** Which backend runs the ops: the one that was asked for, or the first that works on this machine. */
import { cpus } from 'node:os';
import { InputError, messageOf } from '../errors.js';
import type { BackendName, Precision } from '../plan/run.js';
import { startTensorflow } from './tensorflow/start.js';
import { startWasm } from './wasm/start.js';

export interface ChosenBackend {
  name: BackendName;
  /** What computes: a GPU's or a CPU's name. */
  device: string;
  precision: 'fp32' | 'bf16';
  /** The most memory that this process has held so far: of the GPU where one computes, else of the process. */
  peakMemoryBytes: () => number;
  /** Backends that `auto` would have preferred, and why each does not work here. */
  rejected: { name: BackendName; reason: string }[];
}

/** In the order in which `auto` tries them. */
const STARTERS: { name: BackendName; start: () => Promise<void> }[] = [
  { name: 'cuda', start: () => Promise.reject(new Error('this version has no cuda backend')) },
  { name: 'tensorflow', start: startTensorflow },
  { name: 'wasm', start: startWasm },
];

/** What was chosen and, for `auto`, why not what it would have preferred, a line each. */
export function describeBackend({ name, device, precision, rejected }: ChosenBackend): string {
  const reasons = rejected.map((other) => `\n  not ${other.name}: ${other.reason}`).join('');
  return `backend ${name} on ${device}, ${precision}${reasons}`;
}

/** A CPU's name, as the operating system gives it. */
function cpuName(): string {
  return cpus()[0]?.model.trim() || process.arch;
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
      await start();
      if (precision === 'bf16') throw new Error('it computes in float32 alone; bf16 needs cuda');
      return { name, device: cpuName(), precision: 'fp32', rejected, peakMemoryBytes: peakResidentBytes };
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
