/** Which backend runs the ops: the one that was asked for, or the first that works on this machine. */
import { InputError, messageOf } from '../errors.js';
import { cpuName } from '../machine.js';
import type { DecodeLoops } from '../ops/decode-loop.js';
import type { Recorder } from '../ops/recording.js';
import { CudaDecodeLoops } from './cuda/decode-loop.js';
import { peakBandwidth, peakFlops } from './cuda/peak.js';
import { CudaRecorder } from './cuda/recorder.js';
import { cudaDetails, startCuda } from './cuda/start.js';
import type { BackendName, Precision } from './names.js';
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
  /** Memory of the GPU that computes; null where it is the machine's own. */
  memoryBytes: number | null;
  /** What its device could do at most; null where nobody says. */
  peakFlopsPerSecond: number | null;
  /** Bytes a second of its memory at most; null where nobody says. */
  peakBytesPerSecond: number | null;
  /** Where the backend can record a training step and replay it. */
  recorder: Recorder | null;
  /** Where the backend can run decoding steps on the device alone. */
  decodeLoops: DecodeLoops | null;
}

type Started = Pick<ChosenBackend, 'device' | 'precision'> &
  Partial<
    Pick<
      ChosenBackend,
      | 'peakMemoryBytes'
      | 'recorder'
      | 'decodeLoops'
      | 'memoryBytes'
      | 'peakFlopsPerSecond'
      | 'peakBytesPerSecond'
    >
  >;

interface Starter {
  name: BackendName;
  start: (precision: Precision, deterministic: boolean) => Promise<Started>;
  /** Lines for people: what to do about one that does not start, and of what parts one that does is made. */
  advice: () => string[];
  parts: () => string[];
}

/** In the order in which `auto` tries them. */
const STARTERS: Starter[] = [
  {
    name: 'cuda',
    start: async (asked, deterministic) => {
      const precision = asked === 'auto' ? 'bf16' : asked;
      const backend = await startCuda({ precision, deterministic });
      return {
        device: backend.driver.deviceName,
        precision,
        peakMemoryBytes: () => backend.memoryUse().peak,
        memoryBytes: backend.driver.memoryInfo().total,
        peakFlopsPerSecond: peakFlops(backend.driver.deviceName, precision),
        peakBytesPerSecond: peakBandwidth(backend.driver.deviceName),
        recorder: new CudaRecorder(backend),
        decodeLoops: new CudaDecodeLoops(backend),
      };
    },
    advice: cudaDetails,
    parts: cudaDetails,
  },
  {
    name: 'tensorflow',
    start: async (asked) => {
      const precision = asked === 'bf16' ? 'bf16' : 'fp32';
      const { onGpu } = await startTensorflow(precision);
      return { device: onGpu ? gpuName() : cpuName(), precision };
    },
    advice: installAdvice,
    parts: () => [],
  },
  {
    name: 'wasm',
    start: async (asked) => {
      if (asked === 'bf16') throw new Error('it computes in float32 alone; bf16 needs cuda or tensorflow');
      await startWasm();
      return { device: cpuName(), precision: 'fp32' };
    },
    advice: () => [],
    parts: () => [],
  },
];

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
 * InputError, never another in silence. `deterministic` matters on cuda alone: the others always are.
 */
export async function chooseBackend(
  requested: BackendName | 'auto',
  precision: Precision,
  deterministic = false,
): Promise<ChosenBackend> {
  const rejected: ChosenBackend['rejected'] = [];
  for (const { name, start } of STARTERS) {
    if (requested !== 'auto' && requested !== name) continue;
    try {
      const own = {
        peakMemoryBytes: peakResidentBytes,
        memoryBytes: null,
        peakFlopsPerSecond: null,
        peakBytesPerSecond: null,
        recorder: null,
        decodeLoops: null,
      };
      return { name, ...own, ...(await start(precision, deterministic)), rejected };
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
  for (const { name, start, advice, parts } of STARTERS) {
    try {
      const { device } = await start('auto', false);
      reports.push({ name, usable: true, device, reason: null, advice: parts() });
    } catch (error) {
      reports.push({ name, usable: false, device: null, reason: messageOf(error), advice: advice() });
    }
  }
  return reports;
}
