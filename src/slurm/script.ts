/** The job scripts that `mod sweep --slurm` submits: an array with a task for each run, and the report behind it. */
import type { PlannedRun } from '../plan/run.js';

export interface ScriptOptions {
  /** The sweep's name. */
  name: string;
  /** Absolute, all three: the sweep file, the folder of the sweeps, the sweep's own folder. */
  config: string;
  resultsDir: string;
  folder: string;
  /** What starts this program: an interpreter and its script, absolute. */
  command: readonly string[];
  /** What the user gave for sbatch: words as they would stand on its command line. */
  sbatch: string;
}

export interface ArrayOptions extends ScriptOptions {
  /** A task each, in this order. */
  runs: readonly PlannedRun[];
  /** Tasks that run at a time; undefined: as many as the cluster gives. */
  concurrency: number | undefined;
  /** Options of `mod sweep` that every task is given. */
  flags: readonly string[];
}

/** The name of a sweep's jobs, by which squeue finds them. */
export function jobName(sweep: string): string {
  return `mod-${sweep}`;
}

/** Seconds before the end of the time limit at which Slurm warns, and at which training stops by itself. */
const [WARNING, MARGIN] = [120, 180];
/** Minutes for the report: it takes seconds, and a short job is let in where a long one waits. */
const REPORT_MINUTES = 30;

/**
 * The job array. A task trains its run until it is done, or until a little before the job's time limit, and then goes
 * back into the queue by itself. Slurm reads options from the top: those of the user may replace the first two lines,
 * the last ones are what the array is made of.
 */
export function arrayScript(options: ArrayOptions): string {
  const { name, config, resultsDir, command, runs, concurrency, flags, sbatch } = options;
  const array = `0-${runs.length - 1}${concurrency === undefined ? '' : `%${concurrency}`}`;
  return `#!/usr/bin/env bash
# ${runs.length === 1 ? '1 run' : `${runs.length} runs`} of the sweep ${name}, a task each, the costliest first. Made by mod sweep --slurm.
${sbatchLines([`--job-name=${jobName(name)}`, logOption(options, '%A_%a'), sbatch])}
${sbatchLines([`--array=${array}`, '--requeue', '--open-mode=append', `--signal=B:TERM@${WARNING}`])}
set -u

runs=(
${runs.map(({ run_id }) => `  ${quoted(run_id)}`).join('\n')}
)
config_hashes=(
${runs.map(({ config_hash }) => `  ${quoted(config_hash)}`).join('\n')}
)
run=\${runs[SLURM_ARRAY_TASK_ID]}
config_hash=\${config_hashes[SLURM_ARRAY_TASK_ID]}
# Not SLURM_JOB_ID: for one of the tasks that is the id of the whole array.
task=\${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID
say() { echo "$(date -u +%FT%TZ) $run $*"; }
say "on \${SLURMD_NODENAME:-$HOSTNAME}, start $((\${SLURM_RESTART_COUNT:-0} + 1))"

# --max-hours in what is left of the job's time limit: asked of Slurm, whose clock alone counts. No limit, no option.
limit=()
if [[ $(squeue --noheader --jobs="$task" --format=%L) =~ ^(([0-9]+)-)?(([0-9]+):)?([0-9]+):([0-9]+)$ ]]; then
  left=$(((10#\${BASH_REMATCH[2]:-0} * 24 + 10#\${BASH_REMATCH[4]:-0}) * 3600 + 10#\${BASH_REMATCH[5]} * 60 + 10#\${BASH_REMATCH[6]}))
  left=$((left > ${2 * MARGIN} ? left - ${MARGIN} : left / 2))
  limit=(--max-hours "$(printf '%d.%06d' $((left / 3600)) $((left % 3600 * 1000000 / 3600)))")
fi

# Back into the queue: the run goes on from its checkpoint when it is its turn. Slurm sends a TERM with it.
requeue() {
  trap '' TERM
  say 'is not done: back into the queue'
  for _ in {1..24}; do
    scontrol requeue "$task" && exit 0
    sleep 5 # the controller may be restarting
  done
  say "is saved, but cannot queue itself again: start mod sweep ${shown(config)} --slurm again"
  exit 75
}

# Slurm warns this shell alone before the limit, and training must be told. The TERM of a job that is cancelled, moved or
# over its limit goes to training, too: a second one would end it before it has saved, and what becomes of such a job is
# Slurm's to say. While the warning is on its way the state may be SIGNALING, and nothing while the controller is away.
warned() {
  trap '' TERM
  state=$(squeue --noheader --jobs="$task" --format=%T)
  case $state in
    COMPLETING | CANCELLED | DEADLINE | NODE_FAIL | PENDING | PREEMPTED | TIMEOUT)
      say "is saved and left to Slurm: $state"
      wait "$training"
      exit
      ;;
  esac
  kill -TERM "$training"
  wait "$training"
  code=$?
  case $code in 75 | 143) requeue ;; esac # saved, and stopped
  exit "$code"
}

trap warned TERM
${words([...command, 'sweep', config, '--results', resultsDir, ...flags])} --only "$run" --config-hash "$config_hash" \${limit[@]+"\${limit[@]}"} &
training=$!
wait "$training"
code=$?
[ "$code" = 75 ] && requeue # --max-hours, or another process trains the run
exit "$code"
`;
}

/** What runs when every task has ended, however: the state of the sweep into its log, and the report. */
export function reportScript(options: ScriptOptions): string {
  const { name, folder, command, sbatch } = options;
  return `#!/usr/bin/env bash
# The report of the sweep ${name}, once its array has ended. Made by mod sweep --slurm.
${sbatchLines([`--job-name=${jobName(name)}-report`, logOption(options, 'report-%j'), sbatch])}
${sbatchLines([`--time=${REPORT_MINUTES}`, '--requeue', '--open-mode=append'])}
${words([...command, 'status', folder])}
${words([...command, 'report', folder])}
`;
}

function sbatchLines(options: readonly string[]): string {
  return options
    .filter((option) => option !== '')
    .map((option) => `#SBATCH ${option}`)
    .join('\n');
}

/** Below the sweep's folder, a percent sign in its path doubled: Slurm replaces what one stands before. */
function logOption({ folder }: ScriptOptions, name: string): string {
  return `--output="${folder.replaceAll('%', '%%').replace(/["\\]/g, '\\$&')}/slurm/${name}.log"`;
}

function words(texts: readonly string[]): string {
  return texts.map(quoted).join(' ');
}

/** One word to the shell, whatever is in it. */
function quoted(text: string): string {
  return /^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;
}

/** The same within double quotes. */
function shown(text: string): string {
  return text.replace(/["$`\\]/g, '\\$&');
}
