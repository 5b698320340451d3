/** Expands a sweep file to the list of its runs: a pure function. */
import type { CheckpointPolicy } from '../config/checkpoint-policy.js';
import type { Product, SweepFile, TopLevel } from '../config/sweep-file.js';
import { InputError } from '../errors.js';
import { configHash } from '../files/canonical.js';
import { count, counted, firstOf } from '../format.js';
import { selectedTokens } from '../model/config.js';
import { routingProblems } from '../model/feasible.js';
import { denseFlopsPerPass, flopsPerPass } from '../model/flops.js';
import { parameterCounts } from '../model/parameter-count.js';
import { resolvedLearningRate } from './learning-rate.js';
import { baseOf, modelOf } from './model-of.js';
import type { Point } from './point.js';
import { axesOf, type BaselineOf, noBaselines, pointsOf } from './points.js';
import type { PlannedRun, RunSpec } from './run.js';
import { runId } from './run-id.js';

/** A point with fewer steps is not feasible: the warm-up alone takes some. */
const MIN_STEPS = 10;

/** A plan of this many runs takes a few seconds; a million would fill memory. */
const MOST_POINTS = 20_000;

/**
 * The runs of a sweep file: the union of its products, in the file's order. Runs with equal config and backend appear once,
 * and so do runs whose capacities select equally many tokens, under the first capacity, with a note.
 *
 * @param baselineOf resolves `match_flops: FOLDER` to the baseline of a finished sweep
 * @throws InputError for a file without a feasible point, or with too many points
 */
export function expandSweep(file: SweepFile, baselineOf: BaselineOf = noBaselines): PlannedRun[] {
  checkPointCount(file);
  const runs = new Map<string, PlannedRun>();
  const others = new Map<PlannedRun, Set<number>>();
  for (const product of file.products) {
    for (const point of pointsOf(product, baselineOf)) {
      const run = planRun(point, file.top);
      const identity = `${trainingHash(run)} ${run.backend}`;
      const first = runs.get(identity);
      const capacity = run.spec.model.routing?.capacity;
      if (first === undefined) runs.set(identity, run);
      else if (capacity !== undefined && capacity !== first.spec.model.routing?.capacity) {
        others.set(first, (others.get(first) ?? new Set()).add(capacity));
      }
    }
  }
  for (const [run, capacities] of others) run.note = equalCapacitiesNote(run, [...capacities]);
  const plan = [...runs.values()];
  if (plan.every(({ status }) => status === 'skipped')) {
    const reasons = [...new Set(plan.map(({ note }) => note))].slice(0, 3).join('; ');
    throw new InputError(
      `${file.budgetsAt}: flop_budgets: no point of this sweep can be trained: ${reasons}`,
    );
  }
  return plan;
}

function checkPointCount({ products, budgetsAt }: SweepFile): void {
  const axes = products.map(axesOf);
  const counts = axes.map((axis) => Object.values(axis).reduce((product, length) => product * length, 1));
  const total = counts.reduce((sum, points) => sum + points, 0);
  if (total <= MOST_POINTS) return;
  const largest = axes[counts.indexOf(Math.max(...counts))] as Record<string, number>;
  const factors = Object.entries(largest)
    .filter(([, length]) => length > 1)
    .map(([name, length]) => `${count(length)} ${name}`);
  throw new InputError(
    `${budgetsAt}: found ${count(total)} points${products.length > 1 ? ', most of them in a grid of' : ':'} ${factors.join(' × ')}; allowed: at most ${count(MOST_POINTS)} in a sweep; remove values, or divide the file into several sweeps`,
  );
}

/** The config hash with k/T in place of the capacity: training depends on the number of selected tokens alone. */
function trainingHash({ spec, status, config_hash }: PlannedRun): string {
  const { model } = spec;
  const { routing, sequence_length } = model;
  if (routing === null || status === 'skipped') return config_hash;
  const capacity = selectedTokens(routing.capacity, sequence_length) / sequence_length;
  return configHash({ ...spec, model: { ...model, routing: { ...routing, capacity } } });
}

function equalCapacitiesNote({ spec }: PlannedRun, others: readonly number[]): string {
  const { routing, sequence_length } = spec.model;
  const { capacity } = routing as NonNullable<typeof routing>;
  const tokens = `${selectedTokens(capacity, sequence_length)} of ${sequence_length} tokens`;
  const same = `${others.length === 1 ? 'capacity' : 'capacities'} ${firstOf(others.map(String)).join(', ')}`;
  return `${same} would select ${tokens} as well: one run`;
}

function planRun(point: Point, top: TopLevel): PlannedRun {
  const { product, budget, variant, seed } = point;
  const model = modelOf(point);
  const batch_sequences = product.batch_sequences.value;
  const flops_per_pass = flopsPerPass(model).total;
  const flopsPerStep = batch_sequences * 3 * flops_per_pass; // backward counts as twice forward
  const steps = Math.round(budget.value / flopsPerStep);
  const spec: RunSpec = {
    variant,
    flop_budget: budget.value,
    model,
    batch_sequences,
    steps,
    seed: seed.value,
    data: product.data,
    training: trainingOf(point),
    evaluation: {
      sequences: product.evaluation.sequences.value,
      every_steps: product.evaluation.every_steps.value,
      autoregressive: product.evaluation.autoregressive,
    },
    precision: product.precision,
  };
  const reasons = infeasibleReasons(spec);
  const { total, non_embedding, active } = parameterCounts(model);
  return {
    run_id: runId(point, top),
    status: reasons.length === 0 ? 'pending' : 'skipped',
    note: reasons.length === 0 ? null : reasons.join('; '),
    spec,
    checkpoint: checkpointOf(product),
    backend: product.backend,
    params_total: total,
    params_non_embedding: non_embedding,
    ...(model.experts === null ? {} : { params_active: active }),
    flops_per_pass,
    flops_per_pass_dense: denseFlopsPerPass(model),
    train_flops: steps * flopsPerStep,
    tokens: steps * batch_sequences * model.sequence_length,
    config_hash: configHash(spec),
  };
}

function trainingOf({ product, learningRate, shape }: Point): RunSpec['training'] {
  const { training } = product;
  const base = baseOf(product);
  return {
    ...(base === null ? {} : { parametrization: 'complete', base }),
    learning_rate: resolvedLearningRate(learningRate, training.parametrization, shape.d_model),
    weight_decay: training.weight_decay.value,
    gradient_clip: training.gradient_clip.value,
    micro_batch_sequences: training.micro_batch_sequences?.value ?? null,
    deterministic: training.deterministic,
  };
}

/** The reasons why a point is not feasible; an empty list if it is. */
function infeasibleReasons({ model, steps, batch_sequences }: RunSpec): string[] {
  const reasons = routingProblems(model);
  if (steps < MIN_STEPS) {
    const step = `${batch_sequences} sequences of ${model.sequence_length} tokens`;
    reasons.push(
      `the budget allows ${counted(steps, 'step')} of ${step}, at least ${MIN_STEPS} are required`,
    );
  }
  return reasons;
}

function checkpointOf({ checkpoint: { minutes, steps, keep, keep_final } }: Product): CheckpointPolicy {
  return { minutes: minutes.value, steps: steps.value, keep: keep.value, keep_final };
}
