/** The columns of runs.csv, eval.csv and steps.csv, whose names and order other programs rely on. */
import { expect, it } from 'vitest';
import {
  EMPTY_RUN,
  EVAL_COLUMNS,
  RUN_COLUMNS,
  STEP_COLUMNS,
  TIME_COLUMNS,
} from '../../src/results/columns.js';

it('the columns are these, in this order', () => {
  expect(RUN_COLUMNS.join(', ')).toBe(
    'run_id, status, variant, flop_budget, capacity, routing_frequency, router, gate, params_total, params_non_embedding, d_model, n_layers, n_heads, d_ff, sequence_length, batch_sequences, steps, tokens, flops_per_pass, flops_per_pass_vs_dense, train_flops, loss, loss_routing, train_loss, step_ms, tokens_per_s, model_flops_utilization, peak_memory_bytes, wall_s, backend, device, precision, seed, started_at, finished_at, git_commit, config_hash, note, params_active, expert_load, expert_dropped, expert_no_op, step_ms_q1, step_ms_q3, data_hash, data_passes, parametrization, learning_rate',
  );
  expect(EVAL_COLUMNS.join(', ')).toBe(
    'run_id, routing, sequences, loss, loss_se, loss_minus_topk, flops_per_pass, participation, predictor_accuracy, always_skip_accuracy, predictor_precision, predictor_recall, tokens_per_s, peak_memory_bytes, backend, device, evaluated_at, documents, loss_minus_topk_se',
  );
  expect(STEP_COLUMNS.join(', ')).toBe(
    'step, tokens, loss, heldout_loss, learning_rate, grad_norm, predictor_accuracy, step_ms, expert_load, expert_dropped, expert_no_op',
  );
});

it('the columns that differ when a run is trained again are these', () => {
  expect([...TIME_COLUMNS].join(', ')).toBe(
    'step_ms, tokens_per_s, model_flops_utilization, peak_memory_bytes, wall_s, device, started_at, finished_at, git_commit, step_ms_q1, step_ms_q3, evaluated_at',
  );
});

it('the keys of the empty row are the columns of runs.csv, in order', () => {
  expect(Object.keys(EMPTY_RUN)).toEqual([...RUN_COLUMNS]);
});
