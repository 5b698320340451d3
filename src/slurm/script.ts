/** The job scripts of `mod sweep --slurm`: an array with one task per run, and the report that runs after it. */
import { counted } from '../format.js';
import type { PlannedRun } from '../plan/run.js';

export interface ScriptOptions {
  /** The sweep's name. */
  name: string;
  /** Absolute paths of the sweep file, the folder of all sweeps, and the sweep's folder. */
  config: string;
  resultsDir: string;
  folder: string;
  /** The command that starts this program: absolute paths of the interpreter and its script. */
  command: readonly string[];
  /** The user's options for sbatch, as on its command line. */
  sbatch: string;
}

export interface ArrayOptions extends ScriptOptions {
  /** One task each, in this order. */
  runs: readonly PlannedRun[];
  /** Maximum number of tasks that run at a time; undefined: no limit. */
  concurrency: number | undefined;
  /** Options of `mod sweep` for every task. */
  flags: readonly string[];
}

/** The name of a sweep's jobs, used to find them with squeue. */
export function jobName(sweep: string): string {
  return `mod-${sweep}`;
}

/** Seconds before the time limit at which Slurm sends a warning, and at which training stops by itself. */
const [WARNING, MARGIN] = [120, 180];
/** Time limit of the report in minutes: it takes seconds, and short jobs start earlier. */
const REPORT_MINUTES = 30;

/**
 * The job array. A task trains its run until it is done, or until shortly before the job's time limit, and then requeues
 * itself. Later #SBATCH lines override earlier ones: the user's options may replace the first two, not those of the array.
 */
export function arrayScript(options: ArrayOptions): string {
  const { name, config, resultsDir, command, runs, concurrency, flags, sbatch } = options;
  const array = `0-${runs.length - 1}${concurrency === undefined ? '' : `%${concurrency}`}`;
  return `#!/usr/bin/env bash
# ${counted(runs.length, 'run')} of the sweep ${name}, one task each, the most expensive first. Made by mod sweep --slurm.
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
# Not SLURM_JOB_ID: for one of the tasks it is the id of the whole array.
task=\${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID
log() { echo "$(date -u +%FT%TZ) $run $*"; }
log "on \${SLURMD_NODENAME:-$HOSTNAME}, start $((\${SLURM_RESTART_COUNT:-0} + 1))"

# --max-hours, computed from the job's remaining time by Slurm's clock; omitted without a time limit.
limit=()
if [[ $(squeue --noheader --jobs="$task" --format=%L) =~ ^(([0-9]+)-)?(([0-9]+):)?([0-9]+):([0-9]+)$ ]]; then
  left=$(((10#\${BASH_REMATCH[2]:-0} * 24 + 10#\${BASH_REMATCH[4]:-0}) * 3600 + 10#\${BASH_REMATCH[5]} * 60 + 10#\${BASH_REMATCH[6]}))
  left=$((left > ${2 * MARGIN} ? left - ${MARGIN} : left / 2))
  limit=(--max-hours "$(printf '%d.%06d' $((left / 3600)) $((left % 3600 * 1000000 / 3600)))")
fi

# Requeues the task; the run resumes from its checkpoint. Slurm sends a TERM with it.
requeue() {
  trap '' TERM
  log 'not done, requeueing'
  for _ in {1..24}; do
    scontrol requeue "$task" && exit 0
    sleep 5 # the controller may be restarting
  done
  log "saved, but could not be requeued: run mod sweep ${inDoubleQuotes(config)} --slurm again"
  exit 75
}

# Before the limit Slurm signals only this shell, which passes the TERM on to training. The TERM of a job that is cancelled,
# moved or over its limit also goes to training: a second one would end it before it has saved, and Slurm decides what
# happens to such a job. During a warning the state may be SIGNALING, and is empty while the controller is down.
on_term() {
  trap '' TERM
  state=$(squeue --noheader --jobs="$task" --format=%T)
  case $state in
    COMPLETING | CANCELLED | DEADLINE | NODE_FAIL | PENDING | PREEMPTED | TIMEOUT)
      log "saved, not requeued: $state"
      wait "$training"
      exit
      ;;
  esac
  kill -TERM "$training"
  wait "$training"
  code=$?
  case $code in 75 | 143) requeue ;; esac # saved and stopped
  exit "$code"
}

trap on_term TERM
${shellWords([...command, 'sweep', config, '--results', resultsDir, ...flags])} --only "$run" --config-hash "$config_hash" \${limit[@]+"\${limit[@]}"} &
training=$!
wait "$training"
code=$?
[ "$code" = 75 ] && requeue # --max-hours, or another process trains the run
exit "$code"
`;
}

/** The job that runs after every task has ended: prints the sweep's status to its log, and writes the report. */
export function reportScript(options: ScriptOptions): string {
  const { name, folder, command, sbatch } = options;
  return `#!/usr/bin/env bash
# The report of the sweep ${name}, after its array has ended. Made by mod sweep --slurm.
${sbatchLines([`--job-name=${jobName(name)}-report`, logOption(options, 'report-%j'), sbatch])}
${sbatchLines([`--time=${REPORT_MINUTES}`, '--requeue', '--open-mode=append'])}
${shellWords([...command, 'status', folder])}
${shellWords([...command, 'report', folder])}
`;
}

function sbatchLines(options: readonly string[]): string {
  return options
    .filter((option) => option !== '')
    .map((option) => `#SBATCH ${option}`)
    .join('\n');
}

/** The log in the sweep's folder. Percent signs in the path are doubled, since Slurm replaces %x. */
function logOption({ folder }: ScriptOptions, name: string): string {
  return `--output="${folder.replaceAll('%', '%%').replace(/["\\]/g, '\\$&')}/slurm/${name}.log"`;
}

function shellWords(texts: readonly string[]): string {
  return texts.map(quoted).join(' ');
}

/** Quotes a text as one word of the shell. */
function quoted(text: string): string {
  return /^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;
}

/** Escapes a text within double quotes of the shell. */
function inDoubleQuotes(text: string): string {
  return text.replace(/["$`\\]/g, '\\$&');
}
