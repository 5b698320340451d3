/** What has been submitted of a sweep: a record for each job array, beside the logs of its tasks. */
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import { InputError } from '../errors.js';
import { makeResultsFolder } from '../files/atomic.js';
import { readJson, writeJson } from '../files/json.js';

const schema = z.object({
  /** Of the array: 12, where a task is 12_3. */
  job_id: z.string(),
  job_name: z.string(),
  /** By the index of the task. */
  runs: z.array(z.object({ run_id: z.string(), config_hash: z.string() })),
});

export type Submission = z.output<typeof schema>;

/** Where the records and the logs of a sweep's jobs are. */
export function slurmFolder(sweepFolder: string): string {
  return join(sweepFolder, 'slurm');
}

export function writeSubmission(sweepFolder: string, submission: Submission): void {
  const folder = slurmFolder(sweepFolder);
  makeResultsFolder(folder);
  writeJson(join(folder, `${submission.job_id}.json`), submission);
}

/**
 * All that has been submitted, the newest first by Slurm's own count; none where the sweep never was.
 *
 * @throws InputError for a record that is none
 */
export function readSubmissions(sweepFolder: string): Submission[] {
  const folder = slurmFolder(sweepFolder);
  let names: string[];
  try {
    names = readdirSync(folder);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
    throw error;
  }
  return names
    .filter((name) => /^\d+\.json$/.test(name))
    .map((name) => {
      const path = join(folder, name);
      const parsed = schema.safeParse(readJson(path));
      if (!parsed.success) throw new InputError(`${path}: no record of a job array: remove it`);
      return parsed.data;
    })
    .sort((a, b) => Number(b.job_id) - Number(a.job_id));
}
