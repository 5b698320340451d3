/** Stores the rates that `mod bench` measures, from which `mod plan` estimates times: a small file in the user's cache folder. */
import { mkdirSync, readFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { dirname, join } from 'node:path';
import { z } from 'zod';
import { BACKEND_NAMES, type RequestedBackend } from '../backends/names.js';
import { PRECISIONS, type RequestedPrecision } from '../backends/precisions.js';
import { InputError } from '../errors.js';
import { writeFileAtomic } from '../files/atomic.js';
import { cacheFolder } from '../machine.js';

const recordSchema = z.object({
  /** Several machines may share the user's cache folder. */
  host: z.string(),
  backend: z.enum(BACKEND_NAMES),
  device: z.string(),
  precision: z.enum(PRECISIONS),
  /** In the syntax of `mod bench --shape`. */
  shape: z.string(),
  d_model: z.int().positive(),
  /** Whether tokens are routed, through blocks or to experts. */
  routed: z.boolean(),
  /** Rate of whole training steps: 3 · FLOPs per pass · sequences / median step time. */
  flops_per_second: z.number().positive(),
  measured_at: z.string(),
});

export type BenchRecord = z.output<typeof recordSchema>;

/** `bench.json` in the user's cache folder; null for a user without one. */
export function benchRecordPath(env: NodeJS.ProcessEnv = process.env): string | null {
  const folder = cacheFolder(env);
  return folder === null ? null : join(folder, 'bench.json');
}

/** The records of a file; none if it is missing or invalid, since it is only a cache. */
export function readBenchRecords(path: string | null): BenchRecord[] {
  if (path === null) return [];
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

/**
 * Adds a record to a file; it replaces one of the same machine, backend, device, precision and shape.
 *
 * @throws InputError without a path; the system's error if the file cannot be written
 */
export function addBenchRecord(path: string | null, added: BenchRecord): void {
  if (path === null) throw new InputError('this user has no home folder: set XDG_CACHE_HOME');
  const others = readBenchRecords(path).filter((record) => keyOf(record) !== keyOf(added));
  mkdirSync(dirname(path), { recursive: true });
  writeFileAtomic(path, `${JSON.stringify([...others, added], null, 1)}\n`);
}

const keyOf = ({ host, backend, device, precision, shape }: BenchRecord) =>
  JSON.stringify([host, backend, device, precision, shape]);

/** The run to estimate a rate for. */
export interface RateQuery {
  backend: RequestedBackend;
  precision: RequestedPrecision;
  d_model: number;
  routed: boolean;
}

/**
 * The record nearest to a run among those of its backend and precision; null if this machine has none. The distance is
 * that of the widths, which determine the speed of the matrix products. A dense measurement is used for a routed run only
 * if no routed one is within a factor of two in width. The newest of equally near records is used.
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
