/** What nvidia-smi prints for the fake GPUs: the queries of src/machine.ts, as CSV without header and units. */
import { DEFAULT_GPU, type FakeDriverOptions, type FakeGpuOptions, uuidOf } from './options.js';

const MIB = 2 ** 20;
/** A process that has memory on a GPU on which the options say that others have. */
const FOREIGN_PROCESS = 4_000_000;

type Field = (gpu: FakeGpuOptions, index: number) => string | number;

const GPU_FIELDS: Record<string, Field> = {
  index: (_, index) => index,
  uuid: (_, index) => uuidOf(index),
  name: ({ name }) => name,
  driver_version: () => '580.00',
  'memory.total': ({ totalBytes }) => Math.round(totalBytes / MIB),
  'memory.used': ({ othersBytes }) => Math.round(othersBytes / MIB),
  'memory.free': ({ totalBytes, othersBytes }) => Math.round((totalBytes - othersBytes) / MIB),
  'utilization.gpu': ({ othersBytes }) => (othersBytes > 0 ? 100 : 0),
  compute_cap: ({ architecture }) => (architecture / 10).toFixed(1),
  'mig.mode.current': ({ name }) => (/ MIG /.test(name) ? 'Enabled' : 'Disabled'),
};

const PROCESS_FIELDS: Record<string, Field> = {
  gpu_uuid: (_, index) => uuidOf(index),
  pid: () => FOREIGN_PROCESS,
  process_name: () => 'python',
  used_memory: ({ othersBytes }) => Math.round(othersBytes / MIB),
  used_gpu_memory: ({ othersBytes }) => Math.round(othersBytes / MIB),
};

/** The answer to --query-gpu or --query-compute-apps. */
export function nvidiaSmi(options: Pick<FakeDriverOptions, 'gpus'>, args: readonly string[]): string {
  const [, kind, names] =
    args.map((arg) => /^--query-(gpu|compute-apps)=(.*)$/.exec(arg)).find((found) => found !== null) ?? [];
  if (kind === undefined || names === undefined)
    throw new Error(`the fake nvidia-smi has no ${args.join(' ')}`);
  const table = kind === 'gpu' ? GPU_FIELDS : PROCESS_FIELDS;
  const lines = options.gpus.flatMap((given, index) => {
    const gpu = { ...DEFAULT_GPU, ...given };
    if (kind === 'compute-apps' && gpu.othersBytes === 0) return [];
    const values = names.split(',').map((name) => {
      const field = table[name.trim()];
      if (field === undefined) throw new Error(`the fake nvidia-smi has no field ${name}`);
      return field(gpu, index);
    });
    return [`${values.join(', ')}\n`];
  });
  return lines.join('');
}
