/** Which backend runs the ops: the requested one, or the first that works on this machine. */
import { InputError, messageOf } from '../errors.js';
import { BACKEND_NAMES, BACKENDS, type BackendName, type RequestedBackend } from './names.js';
import type { Precision, RequestedPrecision } from './precisions.js';
import type { StartedBackend } from './starter.js';

/** A backend that works on this machine. */
export interface BackendChoice {
  name: BackendName;
  /** Name of the GPU or CPU that computes. */
  device: string;
  precision: Precision;
  /** Backends that `auto` tried before this one, and why each does not work here. */
  rejected: { name: BackendName; reason: string }[];
}

/** The backend that computes in this process. */
export type ChosenBackend = BackendChoice & StartedBackend;

/** The chosen backend and, for `auto`, one line for each backend before it: why it does not work. */
export function describeBackend({ name, device, precision, rejected }: BackendChoice): string {
  const reasons = rejected.map((other) => `\n  not ${other.name}: ${other.reason}`).join('');
  return `backend ${name} on ${device}, ${precision}${reasons}`;
}

/**
 * Makes a backend the active one: for `auto` the first of BACKENDS that works, else the requested one.
 *
 * @param deterministic `training.deterministic`
 * @throws InputError if the requested backend does not work here, or for `auto` none does; another backend never replaces
 *   the requested one silently
 */
export async function chooseBackend(
  requested: RequestedBackend,
  precision: RequestedPrecision,
  deterministic = false,
): Promise<ChosenBackend> {
  const rejected: ChosenBackend['rejected'] = [];
  for (const name of requested === 'auto' ? BACKEND_NAMES : [requested]) {
    try {
      const { start } = await BACKENDS[name].load();
      return { name, ...(await start(precision, deterministic)), rejected };
    } catch (error) {
      rejected.push({ name, reason: messageOf(error) });
    }
  }
  const reasons = rejected.map(({ name, reason }) => `${name}: ${reason}`).join('; ');
  throw new InputError(
    requested === 'auto'
      ? `no backend works here: ${reasons}`
      : `the requested backend does not work here: ${reasons}`,
  );
}

/** One backend on this machine, for `mod doctor`. */
export interface BackendReport {
  name: BackendName;
  usable: boolean;
  /** Name of the GPU or CPU that would compute; null if not usable. */
  device: string | null;
  /** Why it does not work; null if usable. */
  reason: string | null;
  /** What to install or do; for a usable backend, its libraries. */
  advice: string[];
}

/** Starts every backend in turn and reports the results. */
export async function probeBackends(): Promise<BackendReport[]> {
  const reports: BackendReport[] = [];
  for (const name of BACKEND_NAMES) {
    const { start, advice, libraries } = await BACKENDS[name].load();
    try {
      const { device } = await start('auto', false);
      reports.push({ name, usable: true, device, reason: null, advice: libraries() });
    } catch (error) {
      reports.push({ name, usable: false, device: null, reason: messageOf(error), advice: advice() });
    }
  }
  return reports;
}
