/** What `mod bench` has measured on this machine, left for `mod plan`: a small file in the user's cache folder. */
import { mkdirSync, readFileSync } from 'node:fs';
import { homedir, hostname } from 'node:os';
import { dirname, join } from 'node:path';
import { z } from 'zod';
import { BACKEND_NAMES, type RequestedBackend } from '../backends/names.js';
import { PRECISIONS, type RequestedPrecision } from '../backends/precisions.js';
import { writeFileAtomic } from '../files/atomic.js';

const recordSchema = z.object({
  /** The cache folder of a user may be shared between machines. */
  host: z.string(),
  backend: z.enum(BACKEND_NAMES),
  device: z.string(),
  precision: z.enum(PRECISIONS),
  /** As `mod bench --shape` takes it. */
  shape: z.string(),
  d_model: z.int().positive(),
  /** Whether tokens are routed, to blocks or to experts. */
  routed: z.boolean(),
  /** Of whole training steps: 3 · FLOPs per pass · sequences over the median step's time. */
  flops_per_second: z.number().positive(),
  measured_at: z.string(),
});

export type BenchRecord = z.output<typeof recordSchema>;

/** `$XDG_CACHE_HOME/mod/bench.json`, where the variable is not set `~/.cache/mod/bench.json`. */
export function benchRecordPath(env: NodeJS.ProcessEnv = process.env): string {
  return join(env.XDG_CACHE_HOME || join(homedir(), '.cache'), 'mod', 'bench.json');
}

/** The records of a file; none where it is missing or holds something else: it is a cache. */
export function readBenchRecords(path: string): BenchRecord[] {
  let json: unknown;
  try {
    json = JSON.parse(readFileSync(path, 'utf8'));
  } catch {
    return [];
  }
  if (!Array.isArray(json)) return [];
  return json.flatMap((entry) => {
    const parsed = recordSchema.safeParse(entry);
    return parsed.success ? [parsed.data] : [];
  });
}

/** Adds a record to a file; it replaces an older one of the same machine, backend, device, precision and shape. */
export function addBenchRecord(path: string, added: BenchRecord): void {
  const others = readBenchRecords(path).filter((record) => keyOf(record) !== keyOf(added));
  mkdirSync(dirname(path), { recursive: true });
  writeFileAtomic(path, `${JSON.stringify([...others, added], null, 1)}\n`);
}

const keyOf = ({ host, backend, device, precision, shape }: BenchRecord) =>
  JSON.stringify([host, backend, device, precision, shape]);

/** The run whose rate is asked for. */
export interface RateQuery {
  backend: RequestedBackend;
  precision: RequestedPrecision;
  d_model: number;
  routed: boolean;
}

/**
 * The record whose shape is nearest to a run's, on the backend and in the precision that it would train in; null where
 * this machine has none. Nearest is in width, which decides how full the matrix products are; a dense measurement stands
 * for a routed run only where no routed one is within a factor of two in width. Of equally near ones the newest.
 */
export function nearestRecord(
  records: readonly BenchRecord[],
  { backend, precision, d_model, routed }: RateQuery,
  host: string = hostname(),
): BenchRecord | null {
  const usable = records.filter(
    (record) =>
      record.host === host &&
      (backend === 'auto' || record.backend === backend) &&
      (precision === 'auto' || record.precision === precision),
  );
  const name = BACKEND_NAMES.find((candidate) => usable.some((record) => record.backend === candidate));
  const distance = (record: BenchRecord) =>
    Math.abs(Math.log2(record.d_model / d_model)) + (record.routed === routed ? 0 : 1);
  const [nearest] = usable
    .filter((record) => record.backend === name)
    .sort((a, b) => distance(a) - distance(b) || (a.measured_at < b.measured_at ? 1 : -1));
  return nearest ?? null;
}
