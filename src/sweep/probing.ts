/** Which backend trains the runs of a sweep and on which GPUs: a process of `mod probe` computes on each of them. */
import { execFile } from 'node:child_process';
import type { BackendChoice } from '../backends/choose.js';
import { BACKEND_NAMES, BACKENDS } from '../backends/names.js';
import { InputError, messageOf, TryLaterError } from '../errors.js';
import { bytes, duration } from '../format.js';
import { gpusInUse, visibleGpus } from '../machine.js';
import type { PlannedRun } from '../plan/run.js';
import { gpuName } from './gpu-pool.js';

/** Milliseconds of a probe: a GPU's first context takes seconds, with eight GPUs without a persistent driver tens of them. */
export const PROBE_LIMIT = 120_000;

export interface ProbeOptions {
  /** The script of this program. */
  program: string;
  /** Whether to pass over GPUs that other processes use. */
  passesOver: boolean;
  /** Milliseconds for each probe. */
  limit: number;
}

export interface Probed {
  /** The backend for each requested backend and precision, so that equal requests get the same one. */
  backends: Map<string, BackendChoice>;
  /** For CUDA_VISIBLE_DEVICES; empty if they are unknown or no backend needs one. */
  gpus: string[];
  /** Whether a process must be limited to one of them: the machine has others. */
  isSelection: boolean;
  /** One line for each GPU that is passed over. */
  notes: string[];
}

type Probe = { choice: BackendChoice } | { reason: string };

export function backendKey({ backend, spec }: PlannedRun): string {
  return `${backend} ${spec.precision}`;
}

/**
 * Chooses the backend for the runs, and the GPUs on which it works.
 *
 * @throws InputError if no backend works, or the requested one does not
 * @throws TryLaterError if other processes use all GPUs
 */
export async function probeAll(runs: readonly PlannedRun[], options: ProbeOptions): Promise<Probed> {
  const requests = new Map(runs.map((run) => [backendKey(run), run]));
  const needGpu = runs.some(({ backend }) => backend === 'auto' || BACKENDS[backend].occupies === 'gpu');
  const visible = needGpu ? visibleGpus() : [];
  const inUse = options.passesOver ? gpusInUse(visible) : new Map<string, number>();
  const free = visible.filter((gpu) => !inUse.has(gpu));
  // If all are in use, whether a GPU is needed at all is still to be found out.
  const candidates = free.length > 0 ? free : visible;
  const isSelection = visible.length > 1;
  const backends = new Map<string, BackendChoice>();
  const unusable = new Map<string, string>();
  for (const [key, run] of requests) {
    const environments = candidates.length === 0 ? [{}] : candidates.map((gpu) => only(gpu, isSelection));
    const probes = await Promise.all(environments.map((environment) => probe(run, environment, options)));
    const chosen = best(probes);
    backends.set(key, chosen);
    if (BACKENDS[chosen.name].occupies === 'core') continue;
    candidates.forEach((gpu, i) => {
      const reason = unusableReason(probes[i] as Probe, chosen);
      if (reason !== null) unusable.set(gpu, reason);
    });
  }
  const occupiesGpu = [...backends.values()].some(({ name }) => BACKENDS[name].occupies === 'gpu');
  if (!occupiesGpu) return { backends, gpus: [], isSelection: false, notes: [] };
  const reasons = [
    ...[...inUse].map(([gpu, used]) => [gpu, `other processes use ${bytes(used)} of its memory`] as const),
    ...[...unusable].filter(([gpu]) => !inUse.has(gpu)),
  ];
  const passedOver = reasons.map(([gpu, reason]) => `${gpuName(gpu)} is passed over: ${reason}`);
  if (visible.length > 0 && free.length === 0) {
    throw new TryLaterError(
      `no GPU is free: ${passedOver.join('; ')}. Start the sweep again later, or share them with --share-gpus`,
    );
  }
  const names = free.filter((gpu) => !unusable.has(gpu));
  if (visible.length > 0 && names.length === 0) {
    throw new InputError(`no GPU works with every precision of the sweep: ${passedOver.join('; ')}`);
  }
  return { backends, gpus: names, isSelection, notes: passedOver };
}

/** Why the GPU of a run does not work in a new process; null if it does. */
export async function lostReason(
  run: PlannedRun,
  { name }: BackendChoice,
  environment: Record<string, string>,
  options: ProbeOptions,
): Promise<string | null> {
  const probed = await probe({ ...run, backend: name }, environment, options);
  // A GPU on which another run fills the memory works.
  return 'reason' in probed && !/out of (GPU )?memory/i.test(probed.reason) ? probed.reason : null;
}

const only = (gpu: string, isSelection: boolean): Record<string, string> =>
  isSelection ? { CUDA_VISIBLE_DEVICES: gpu } : {};

/** Of several GPUs' choices the first in the order of `auto`. */
function best(probes: readonly Probe[]): BackendChoice {
  const choices = probes.flatMap((probed) => ('choice' in probed ? [probed.choice] : []));
  for (const name of BACKEND_NAMES) {
    const found = choices.find((choice) => choice.name === name);
    if (found !== undefined) return found;
  }
  const reasons = probes.flatMap((probed) => ('reason' in probed ? [probed.reason] : []));
  throw new InputError([...new Set(reasons)].join('; '));
}

function unusableReason(probed: Probe, chosen: BackendChoice): string | null {
  if ('reason' in probed) return probed.reason;
  if (probed.choice.name === chosen.name) return null;
  return probed.choice.rejected.find(({ name }) => name === chosen.name)?.reason ?? 'it does not work';
}

/** Runs `mod probe`: a crash while native code is loaded must not end the sweep. */
function probe(
  { backend, spec }: PlannedRun,
  environment: Record<string, string>,
  { program, limit }: ProbeOptions,
): Promise<Probe> {
  const args = [program, 'probe', '--backend', backend, '--precision', spec.precision];
  return new Promise((resolve) => {
    const env = { ...process.env, ...environment };
    const child = execFile(process.execPath, args, { env }, (error, stdout, stderr) => {
      clearTimeout(timer);
      if (error === null) resolve({ choice: JSON.parse(stdout) as BackendChoice });
      else resolve({ reason: stderr.trim().replace(/^mod: /, '') || messageOf(error) });
    });
    // A process in a call that hangs may not even end when it is killed: nothing waits for it.
    const timer = setTimeout(() => {
      child.kill('SIGKILL');
      child.unref();
      child.stdout?.destroy();
      child.stderr?.destroy();
      resolve({ reason: `a computation on it has not ended after ${duration(limit / 1000)}` });
    }, limit);
  });
}
