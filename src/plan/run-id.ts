/** Run ids: what a run is, in the words of its sweep file, as a file name. */
import { Written } from '../config/document.js';
import type { Product, TopLevel } from '../config/sweep-file.js';
import { canonicalJson, configHash } from '../files/canonical.js';
import { isExpertVariant } from '../model/variants.js';
import type { Point } from './points.js';

/**
 * Budget, variant, capacity and frequency where routed, `sigmoid` where that is the gate, size, seed, then every other
 * key in which the run differs from the file's top level: `6e18-mod-c0.125-f2-217M-s0`,
 * `1e16-baseline-d256l4-s1-learning_rate-1e-3`. Depends on the run and the top level alone, so that adding grids renames
 * nothing. A learning rate is also named where the top level has several. What would make the id longer than a file name
 * may be stands as a hash at its end.
 */
export function runId(point: Point, top: TopLevel): string {
  const { routing } = point;
  const routed =
    routing === null
      ? []
      : [
          `c${routing.capacity.text}`,
          `f${routing.frequency.text}`,
          ...(routing.gate === 'raw' ? [] : [routing.gate]),
        ];
  const parts = [point.budget.text, point.variant, ...routed, point.shape.name, `s${point.seed.text}`];
  const own = otherKeys(point.product, [point.learningRate]);
  const usual = otherKeys(top, top.training.learning_rate);
  for (const [key, { value, text }] of Object.entries(own)) {
    if (!concerns(point, key)) continue;
    if (value !== usual[key]?.value) parts.push(`${key}-${text}`);
  }
  return shortened(parts);
}

/** File systems take names of 255 bytes; some of them are left to whoever archives or mounts the results. */
const LONGEST = 200;
const HASH_DIGITS = 12;

/** The parts as a file name: as many from the first as there is room for, and a hash of the others. */
function shortened(parts: readonly string[]): string {
  const whole = parts.join('-');
  if (whole.length <= LONGEST) return whole;
  let kept = parts.length - 1;
  while (parts.slice(0, kept).join('-').length > LONGEST - 1 - HASH_DIGITS) kept--;
  return [...parts.slice(0, kept), configHash(parts.slice(kept)).slice(0, HASH_DIGITS)].join('-');
}

/** The random control and models without routing have nothing that these could change. */
const LEARNED_ROUTER_KEYS = new Set(['predictor_hidden', 'aux_loss_weight']);
/** As ids name the keys of `experts`. */
const EXPERT_KEYS = new Set([
  'experts',
  'capacity_factor',
  'balance_loss_weight',
  'no_ops',
  'balance_no_ops',
]);

/** Whether a key could change anything about a run. */
function concerns({ variant, routing }: Point, key: string): boolean {
  if (LEARNED_ROUTER_KEYS.has(key)) return routing?.router === 'learned';
  if (!EXPERT_KEYS.has(key)) return true;
  if (key === 'no_ops') return variant === 'mode-integrated' || variant === 'moe-reduced';
  return key === 'balance_no_ops' ? variant === 'mode-integrated' : isExpertVariant(variant);
}

interface Setting {
  /** Equal values are equal texts. */
  value: string;
  /** As the file wrote it. */
  text: string;
}

/** The keys that the fixed part of an id leaves out. Data is named by its hash: globs are no file names. */
function otherKeys(
  product: Product | TopLevel,
  learningRates: ('auto' | Written)[],
): Record<string, Setting> {
  const { routing, training, evaluation, data } = product;
  const { count, ...experts } = product.experts;
  const settings = {
    sequence_length: product.sequence_length,
    batch_sequences: product.batch_sequences,
    tie_embeddings: product.tie_embeddings,
    ...routing,
    experts: count,
    ...experts,
    ...training,
    ...evaluation,
    backend: product.backend,
    precision: product.precision,
  };
  const { learning_rate: _, ...single } = settings;
  const rates = learningRates.map(settingOf);
  return {
    learning_rate: {
      value: rates.map(({ value }) => value).join(),
      text: rates.map(({ text }) => text).join(),
    },
    ...Object.fromEntries(Object.entries(single).map(([key, value]) => [key, settingOf(value)])),
    data: { value: canonicalJson(data ?? null), text: configHash(data ?? null).slice(0, 8) },
  };
}

function settingOf(value: Written | string | boolean | null): Setting {
  if (value instanceof Written) return { value: String(value.value), text: value.text };
  return { value: String(value), text: String(value) };
}
