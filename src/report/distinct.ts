/** One run is one run: the same configuration on the same data, in however many folders, counts once. */
import { InputError } from '../errors.js';
import type { LoadedRun } from '../results/load.js';
import { groupBy } from './group.js';

/** A run that is left out, since another one has its configuration and data. */
export interface Repeat {
  run: LoadedRun;
  /** The run that counts. */
  counted: LoadedRun;
}

/**
 * Of runs with one config hash and one content of their data, the first that finished counts. The data are compared by the
 * hash of their content where both have one; the config hash contains their names.
 *
 * @throws InputError if two runs that claim to be deterministic have different losses on one backend, device and version
 */
export function distinctRuns(runs: readonly LoadedRun[]): { distinct: LoadedRun[]; repeats: Repeat[] } {
  const repeats: Repeat[] = [];
  for (const same of groupBy(runs, ({ row }) => row.config_hash).values()) {
    const hashes = [...new Set(same.map(({ row }) => row.data_hash ?? null))].filter((hash) => hash !== null);
    const groups =
      hashes.length < 2 ? [same] : [...groupBy(same, ({ row }) => row.data_hash ?? hashes[0]).values()];
    for (const group of groups) {
      const [counted, ...others] = [...group].sort(byFinish) as [LoadedRun, ...LoadedRun[]];
      for (const run of others) {
        checkDeterminism(counted, run);
        repeats.push({ run, counted });
      }
    }
  }
  const left = new Set(repeats.map(({ run }) => run));
  return { distinct: runs.filter((run) => !left.has(run)), repeats };
}

/** Finished runs first, by the time at which they finished; equal ones in the order of the plans. */
function byFinish({ row: a }: LoadedRun, { row: b }: LoadedRun): number {
  const rank = ({ status, loss }: LoadedRun['row']) =>
    status === 'done' && loss !== null ? 0 : status === 'done' ? 1 : 2;
  if (rank(a) !== rank(b)) return rank(a) - rank(b);
  return (a.finished_at ?? '9').localeCompare(b.finished_at ?? '9');
}

/** Why a repeated run is left out. */
export function repeatReason({ run: { row }, counted }: Repeat): string {
  const where = `${counted.sweep}/${counted.row.run_id}`;
  const { loss } = counted.row;
  if (row.loss === null || loss === null || row.loss === loss)
    return `the same run as ${where}: it counts once`;
  return `the same run as ${where}, which finished first and counts: loss ${row.loss} against ${loss}`;
}

/** Backends whose results are the same whenever a run is trained again on one machine. */
const ALWAYS_DETERMINISTIC: ReadonlySet<string> = new Set(['wasm', 'tensorflow']);

const isDeterministic = ({ row, spec }: LoadedRun) =>
  row.backend !== null && (ALWAYS_DETERMINISTIC.has(row.backend) || spec.training.deterministic);

function checkDeterminism(a: LoadedRun, b: LoadedRun): void {
  const [first, second] = [a.row, b.row];
  if (first.loss === null || second.loss === null || first.loss === second.loss) return;
  const isSame = (['backend', 'device', 'precision', 'git_commit'] as const).every(
    (key) => first[key] !== null && first[key] === second[key],
  );
  if (!isSame || !isDeterministic(a) || !isDeterministic(b)) return;
  throw new InputError(
    `${a.sweep}/${first.run_id} and ${b.sweep}/${second.run_id} are the same run, deterministic on ${first.backend}, ${first.device}, commit ${first.git_commit}, but their losses are ${first.loss} and ${second.loss}: one of their folders was changed; leave it out, or train it again`,
  );
}
