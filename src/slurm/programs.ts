/** Runs Slurm's programs; reports a missing program or an unavailable controller as an error that says what to do. */
import { spawn } from 'node:child_process';
import { InputError, TryLaterError } from '../errors.js';

export interface SlurmOutput {
  stdout: string;
  /** The program's error messages, without its name before each line; empty if it exited with 0. */
  error: string;
}

/** Error messages that the programs print if the controller is down or busy. */
const NO_CONTROLLER = /unable to contact slurm controller|socket timed out|connection refused/i;

/**
 * Runs one of Slurm's programs to its end.
 *
 * @param input its standard input
 * @throws InputError if the program is not installed
 * @throws TryLaterError if the controller does not answer
 */
export async function slurm(
  program: 'sbatch' | 'squeue' | 'sacct' | 'scontrol',
  args: readonly string[],
  input = '',
): Promise<SlurmOutput> {
  const { code, stdout, stderr } = await run(program, args, input);
  if (code === 0) return { stdout, error: '' };
  const error = stderr.trim().replace(/^\w+: (error: )?/gm, '') || `exit code ${code}`;
  if (NO_CONTROLLER.test(error)) {
    throw new TryLaterError(`Slurm's controller does not answer: ${error}; try again later`);
  }
  return { stdout, error };
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
    child.stdin.on('error', () => undefined); // the program may ignore its input
    child.stdin.end(input);
  });
}

function missing(program: string): string {
  return `Slurm is not installed: ${program} is not in the PATH. Run this command on the cluster's login node. Without a cluster omit --slurm, or divide the sweep among machines with --shard`;
}
