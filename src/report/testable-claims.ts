/**
 * Which claims the runs of a sweep file can decide: the report's own claims on losses and times that are made up so that every
 * claim that can be tested has a clear answer. What is not tested then lacks runs, and what stays undecided lacks sizes or seeds.
 */
import type { ModelConfig } from '../model/config.js';
import { evaluationModes } from '../model/routing-modes.js';
import type { PlannedRun } from '../plan/run.js';
import { randomStream } from '../random.js';
import type { EvalRow } from '../results/columns.js';
import type { LoadedRun } from '../results/load.js';
import { planRow } from '../results/run-folder.js';
import { claimsOf } from './claims/all.js';
import { studyOf } from './study.js';

export interface TestableClaim {
  claim: string;
  /** Null if the runs can decide it; else what is missing. */
  missing: string | null;
}

/** Nats: by decade² from the middle size, of a run's noise, and between dense models and others. */
const [BEND, NOISE, GAIN] = [0.25, 0.001, 0.03];
/** Held-out sequences of a made-up evaluation: enough for a verdict. */
const SEQUENCES = 2048;
const ACCURACY = 0.98;
const DEVICE = 'one';

/** The claims, in the report's order, each once. */
export function testableClaims(runs: readonly PlannedRun[]): TestableClaim[] {
  const planned = runs.filter(({ status }) => status === 'pending');
  if (planned.length === 0) return [];
  const claims = claimsOf(studyOf(planned.map((run) => madeUpRun(run, optimumOf(planned, run)))));
  return claims.map(({ claim, verdict, finding }) => ({
    claim,
    missing: verdict === 'not tested' ? finding : verdict === 'undecided' ? needsOf(finding) : null,
  }));
}

/** Differences from the dense model, in gains. Which way they go does not matter. */
const GAINS: Record<PlannedRun['spec']['variant'], number> = {
  baseline: 0,
  mod: -1,
  random: 1,
  moe: -1,
  'moe-reduced': -1,
  'mode-staged': -2,
  'mode-integrated': -3,
};

/** The difference that depth, capacity, frequency and auxiliary loss make, in gains. */
function settingOf({ d_model, n_layers, routing }: ModelConfig): number {
  if (routing === null) return 0;
  const { capacity, frequency, aux_loss_weight } = routing;
  return (
    -0.1 * Math.log((32 * n_layers) / d_model) +
    0.3 * Math.log(capacity) +
    (frequency === 1 ? 1 : 0) +
    (aux_loss_weight > 0 ? 0.15 : 0)
  );
}

/** What an undecided finding says that would decide it. */
function needsOf(finding: string): string {
  const said = /To decide it: (.*?)\.?$/m.exec(finding)?.[1];
  return said === undefined ? 'Needs more sizes, seeds or budgets.' : `Needs ${said}.`;
}

/**
 * Parameters of the made-up optimum of a run's setting: of the middle size, as sizes are chosen to bracket it; for MoD one size
 * above if that is not the largest, since its optimum has more parameters.
 */
function optimumOf(runs: readonly PlannedRun[], { spec }: PlannedRun): number {
  const settingOfRun = ({ flop_budget, variant, model }: PlannedRun['spec']) =>
    `${flop_budget} ${variant} ${model.routing?.capacity} ${model.routing?.frequency}`;
  const own = runs.filter((run) => settingOfRun(run.spec) === settingOfRun(spec));
  const sizes = [...new Set(own.map(({ params_total }) => params_total))].sort((a, b) => a - b);
  const middle = Math.floor(sizes.length / 2);
  const index = spec.variant === 'mod' ? Math.max(middle, Math.min(middle + 1, sizes.length - 2)) : middle;
  return sizes[index] as number;
}

function madeUpRun(run: PlannedRun, optimum: number): LoadedRun {
  const { spec, flops_per_pass } = run;
  const decades = Math.log10(run.params_total / optimum);
  const noise = NOISE * randomStream(0, 'testable-claims', run.run_id).normal();
  const { variant, model } = spec;
  const loss =
    2 -
    0.1 * Math.log10(spec.flop_budget) +
    BEND * decades ** 2 +
    GAIN * (GAINS[variant] + settingOf(model)) +
    noise;
  const step_ms = 1e-9 * flops_per_pass;
  const row: LoadedRun['row'] = {
    ...planRow(run),
    status: 'done',
    loss,
    loss_routing: 'topk',
    train_loss: loss,
    step_ms,
    step_ms_q1: 0.999 * step_ms,
    step_ms_q3: 1.001 * step_ms,
    peak_memory_bytes: flops_per_pass,
    backend: 'cuda',
    device: DEVICE,
    precision: 'bf16',
  };
  const evaluations = evaluationModes(model).map((mode): EvalRow => {
    const isTopK = mode === 'topk';
    const routing = isTopK ? model.routing : null;
    return {
      run_id: run.run_id,
      routing: mode,
      sequences: SEQUENCES,
      loss: isTopK ? loss : loss * 1.001,
      loss_se: 0.01,
      loss_minus_topk: isTopK ? 0 : loss * 0.001,
      loss_minus_topk_se: NOISE,
      flops_per_pass,
      participation: model.routing?.capacity ?? null,
      predictor_accuracy: routing === null ? null : ACCURACY,
      always_skip_accuracy: routing === null ? null : 1 - routing.capacity,
      predictor_precision: null,
      predictor_recall: null,
      tokens_per_s: null,
      peak_memory_bytes: null,
      backend: 'cuda',
      device: DEVICE,
      evaluated_at: '2026-01-01T00:00:00.000Z',
      documents: null,
    };
  });
  return { sweep: 'planned', row, spec, evaluations, analysis: null, steps: () => [] };
}
