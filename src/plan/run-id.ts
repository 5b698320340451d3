/** Run ids: the settings of a run, spelled as in its sweep file, as a file name. */
import { WrittenNumber } from '../config/document.js';
import { RateMultiple, type WrittenRate } from '../config/learning-rate.js';
import type { Product, TopLevel } from '../config/sweep-file.js';
import { canonicalJson, configHash } from '../files/canonical.js';
import { ROUTERS } from '../model/routers.js';
import { VARIANTS } from '../model/variants.js';
import type { Point } from './point.js';

/**
 * The id of a run: budget, variant, capacity and frequency if routed, the gate if it is not raw, size, seed, then every
 * other key in which the run differs from the file's top level: `6e18-mod-c0.125-f2-217M-s0`,
 * `1e16-baseline-d256l4-s1-learning_rate-1e-3`. It depends only on the run and the top level, so adding a grid renames no
 * run. The learning rate is also named if the top level lists several. An id that would be too long for a file name
 * ends in a hash of the parts left out.
 */
export function runId(point: Point, top: TopLevel): string {
  const { routing } = point;
  const routed =
    routing === null
      ? []
      : [
          `c${spelled(routing.capacity)}`,
          `f${spelled(routing.frequency)}`,
          ...(routing.gate === 'raw' ? [] : [routing.gate]),
        ];
  const parts = [
    spelled(point.budget),
    point.variant,
    ...routed,
    point.shape.name,
    `s${spelled(point.seed)}`,
  ];
  const own = otherKeys(point.product, [point.learningRate]);
  const usual = otherKeys(top, top.training.learning_rate);
  for (const [key, { value, text }] of Object.entries(own)) {
    if (!affects(point, key)) continue;
    if (value !== usual[key]?.value) parts.push(`${key}-${text}`);
  }
  return shortened(parts);
}

/** A number as in the file, but with a digit first: a folder whose name starts with a dot is hidden. `.3e9` is `0.3e9`. */
function spelled({ text }: WrittenNumber | RateMultiple): string {
  return text.replace(/^\+/, '').replace(/^\./, '0.');
}

/** File systems allow names of 255 bytes; the difference is left for suffixes of archives and mounts. */
const LONGEST = 200;
const HASH_DIGITS = 12;

/** The parts as a file name: the first ones that fit, and a hash of the others. */
function shortened(parts: readonly string[]): string {
  const whole = parts.join('-');
  if (whole.length <= LONGEST) return whole;
  let kept = parts.length - 1;
  while (parts.slice(0, kept).join('-').length > LONGEST - 1 - HASH_DIGITS) kept--;
  return [...parts.slice(0, kept), configHash(parts.slice(kept)).slice(0, HASH_DIGITS)].join('-');
}

/** Keys that affect only routers that learn. */
const LEARNED_ROUTER_KEYS = new Set(['predictor_hidden', 'aux_loss_weight']);
/** The keys of `experts`, by their names in ids. */
const EXPERT_KEYS = new Set([
  'experts',
  'capacity_factor',
  'balance_loss_weight',
  'no_ops',
  'balance_no_ops',
]);

/** Whether a key can change the result of a run. */
function affects({ product, variant, routing }: Point, key: string): boolean {
  if (key === 'base') return product.training.parametrization === 'complete';
  if (LEARNED_ROUTER_KEYS.has(key)) return routing !== null && ROUTERS[routing.router].learns;
  if (!EXPERT_KEYS.has(key)) return true;
  const { experts } = VARIANTS[variant];
  if (key === 'no_ops') return experts !== null && (experts.noOps || experts.reducedCapacity);
  return key === 'balance_no_ops' ? experts?.noOps === true : experts !== null;
}

interface Setting {
  /** Equal for equal values, however they are written. */
  value: string;
  /** As in the file. */
  text: string;
}

/** The keys that are not in the fixed part of an id. Data is named by its hash: globs are not valid in file names. */
function otherKeys(
  product: Product | TopLevel,
  learningRates: readonly WrittenRate[],
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
  const { learning_rate: _, base, ...single } = settings;
  const baseValues = Object.fromEntries(Object.entries(base).map(([key, { value }]) => [key, value]));
  const rates = learningRates.map(settingOf);
  return {
    learning_rate: {
      value: rates.map(({ value }) => value).join(),
      text: rates.map(({ text }) => text).join(),
    },
    ...Object.fromEntries(Object.entries(single).map(([key, value]) => [key, settingOf(value)])),
    base: { value: canonicalJson(baseValues), text: configHash(baseValues).slice(0, 8) },
    data: { value: canonicalJson(data ?? null), text: configHash(data ?? null).slice(0, 8) },
  };
}

function settingOf(value: WrittenRate | string | boolean | null): Setting {
  if (value instanceof RateMultiple) return { value: `${value.value}x`, text: spelled(value) };
  if (value instanceof WrittenNumber) return { value: String(value.value), text: spelled(value) };
  return { value: String(value), text: String(value) };
}
