/** Slurm's own programs: running them, and what it means where they are missing, refuse, or get no answer. */
import { spawn } from 'node:child_process';
import { InputError, TryLaterError } from '../errors.js';

export interface Answer {
  /** What it printed. */
  stdout: string;
  /** What it complained of, without the name that it puts before each line; empty where it ended with 0. */
  refusal: string;
}

/** What the programs say where the controller is down or too busy. */
const NO_CONTROLLER = /unable to contact slurm controller|socket timed out|connection refused/i;

/**
 * Runs one of Slurm's programs to its end.
 *
 * @param input its standard input
 * @throws InputError where it is not installed
 * @throws TryLaterError where it reaches no controller
 */
export async function slurm(
  program: 'sbatch' | 'squeue' | 'sacct',
  args: readonly string[],
  input = '',
): Promise<Answer> {
  const { code, stdout, stderr } = await run(program, args, input);
  if (code === 0) return { stdout, refusal: '' };
  const refusal = stderr.trim().replace(/^\w+: (error: )?/gm, '') || `exit code ${code}`;
  if (NO_CONTROLLER.test(refusal)) {
    throw new TryLaterError(`Slurm's controller does not answer: ${refusal}; try again later`);
  }
  return { stdout, refusal };
}

function run(program: string, args: readonly string[], input: string) {
  type Ended = { code: number | null; stdout: string; stderr: string };
  return new Promise<Ended>((settle, fail) => {
    const child = spawn(program, args, { stdio: ['pipe', 'pipe', 'pipe'] });
    let [stdout, stderr] = ['', ''];
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      stdout += text;
    });
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      stderr += text;
    });
    child.on('error', (error: NodeJS.ErrnoException) =>
      fail(error.code === 'ENOENT' ? new InputError(missing(program)) : error),
    );
    child.on('close', (code) => settle({ code, stdout, stderr }));
    child.stdin.on('error', () => undefined); // it need not read
    child.stdin.end(input);
  });
}

function missing(program: string): string {
  return `no Slurm on this machine: ${program} is not in the PATH. Run this where jobs are submitted from, the cluster's login node; without a cluster leave --slurm out, or divide the sweep among machines with --shard`;
}
