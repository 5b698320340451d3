/** The manifest of a run: that of the earlier attempts, to resume from, and the one that this attempt writes. */
import type { ChosenBackend } from '../backends/choose.js';

import type { DataFiles } from '../data/config.js';
import type { PlannedRun } from '../plan/run.js';
import { gitCommit, programVersion, versions } from '../results/provenance.js';
import { recordedFiles } from '../results/recorded-files.js';
import { type Attempt, type Manifest, readManifest, readResult } from '../results/run-folder.js';

const PACKAGES = ['@tensorflow/tfjs-core', '@tensorflow/tfjs-backend-wasm', '@tensorflow/tfjs-node-gpu'];

/** The manifest of an earlier process, to resume from; null if there is none, or if that run diverged or had another config. */
export function resumedManifest({ config_hash }: PlannedRun, folder: string): Manifest | null {
  const manifest = readManifest(folder);
  if (manifest?.config_hash !== config_hash || readResult(folder)?.status === 'diverged') return null;
  return manifest;
}

/** The manifest of a new attempt, which starts after `fromStep` steps. `before`: the manifest of the attempts before it. */
export function manifestOf(
  { run, backend, now }: { run: PlannedRun; backend: ChosenBackend; now: () => number },
  before: Manifest | null,
  fromStep: number,
  microBatch: number,
  files: Partial<DataFiles>,
): Manifest {
  const started_at = new Date(now()).toISOString();
  const git_commit = gitCommit();
  const attempt: Attempt = {
    started_at,
    from_step: fromStep,
    backend: backend.name,
    device: backend.device,
    version: programVersion(),
    git_commit,
  };
  return {
    run_id: run.run_id,
    config_hash: run.config_hash,
    seed: run.spec.seed,
    spec: run.spec,
    ...recordedFiles(files),
    backend: backend.name,
    precision: backend.precision,
    device: backend.device,
    micro_batch_sequences: microBatch,
    versions: versions(...PACKAGES),
    git_commit,
    started_at: before?.started_at ?? started_at,
    attempts: [...(before?.attempts ?? []), attempt],
    skipped_batches: before?.skipped_batches ?? [],
  };
}

/** Names the versions of the program that trained a run, if there is more than one; attempts that were started over do not count. */
export function versionsNote(attempts: readonly Attempt[]): string[] {
  const first = attempts.findLastIndex(({ from_step }) => from_step === 0);
  const names = attempts
    .slice(Math.max(0, first))
    .map(({ version = 'unknown version', git_commit, from_step }) => ({
      name: git_commit === null ? version : `${version} (commit ${git_commit.slice(0, 12)})`,
      from_step,
    }));
  const changes = names.filter(({ name }, i) => name !== names[i - 1]?.name);
  if (changes.length < 2) return [];
  const each = changes.map(({ name, from_step }) => `${name} from step ${from_step}`);
  return [`trained by more than one version of mod: ${each.join(', ')}`];
}
