/** Records of a sweep's submitted job arrays, one file each, next to the logs of their tasks. */
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import { InputError } from '../errors.js';
import { makeResultsFolder } from '../files/atomic.js';
import { readJson, writeJson } from '../files/json.js';

const schema = z.object({
  /** Id of the array: 12, if a task is 12_3. */
  job_id: z.string(),
  job_name: z.string(),
  /** In the order of the task indices. */
  runs: z.array(z.object({ run_id: z.string(), config_hash: z.string() })),
});

export type Submission = z.output<typeof schema>;

/** The folder of the records and logs of a sweep's jobs. */
export function slurmFolder(sweepFolder: string): string {
  return join(sweepFolder, 'slurm');
}

export function writeSubmission(sweepFolder: string, submission: Submission): void {
  const folder = slurmFolder(sweepFolder);
  makeResultsFolder(folder);
  writeJson(join(folder, `${submission.job_id}.json`), submission);
}

/**
 * All submissions of a sweep, the newest first by job id.
 *
 * @throws InputError for an invalid record
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
      if (!parsed.success) throw new InputError(`${path}: not a valid record of a job array: delete it`);
      return parsed.data;
    })
    .sort((a, b) => Number(b.job_id) - Number(a.job_id));
}
