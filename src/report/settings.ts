/** Groups runs into curves: the runs of one curve differ only in budget, size and seed. */
import { VARIANTS, type Variant } from '../model/variants.js';
import { automaticLearningRate } from '../plan/learning-rate.js';
import type { RunSpec } from '../plan/run.js';

/** The settings that the runs of one curve share: their routing, and the other keys in which curves differ. */
export interface Setting {
  /** Equal settings have equal keys. */
  key: string;
  /** `MoD 12.5%, every other block`. */
  label: string;
  /** The label without `others`. */
  shortLabel: string;
  /** The label without what most runs share: `MoD 12.5%`. `commonText` has what is left out. */
  name: string;
  variant: Variant;
  capacity: number | null;
  frequency: number | null;
  gate: string | null;
  aux_loss_weight: number;
  /** Other keys in the label, because they differ within some budget: `learning rate 1e-3`. */
  others: string;
}

type Named = Record<string, string>;

/**
 * The setting of each spec. Keys such as the learning rate or the batch size are part of it only if runs of one budget and
 * variant differ in them: a batch size that grows with the budget does not divide a curve, two batch sizes at one budget do.
 */
export function settingsOf(specs: readonly RunSpec[]): Setting[] {
  const distinguishing = distinguishingKeys(specs);
  const common = commonOf(specs, distinguishing);
  return specs.map((spec) => settingOf(spec, distinguishing, common));
}

/** What the names of settings leave out, as a sentence; empty for nothing. */
export function commonText(specs: readonly RunSpec[]): string {
  const { frequency, keys } = commonOf(specs, distinguishingKeys(specs));
  const parts = [
    ...(frequency === null ? [] : [`routing in ${everyBlock(frequency)}`]),
    ...Object.entries(keys).map(([key, value]) => `${key} ${value}`),
  ];
  return parts.length === 0 ? '' : `Unless a name says otherwise: ${parts.join(', ')}.`;
}

/** The routing frequency and the distinguishing keys that most runs have. */
interface Common {
  frequency: number | null;
  keys: Named;
}

function commonOf(specs: readonly RunSpec[], distinguishing: ReadonlySet<string>): Common {
  const keys = [...distinguishing].map(
    (key) => [key, mostOf(specs.map((spec) => otherKeys(spec)[key]))] as const,
  );
  return {
    frequency: mostOf(specs.flatMap(({ model }) => model.routing?.frequency ?? [])) ?? null,
    keys: Object.fromEntries(keys.filter((pair): pair is readonly [string, string] => pair[1] !== undefined)),
  };
}

/** The value that occurs most often, the first one among equals. */
function mostOf<T>(values: readonly T[]): T | undefined {
  const counts = new Map<T, number>();
  for (const value of values) counts.set(value, (counts.get(value) ?? 0) + 1);
  return [...counts].reduce<[T, number] | undefined>(
    (most, one) => (most && most[1] >= one[1] ? most : one),
    undefined,
  )?.[0];
}

function settingOf(spec: RunSpec, distinguishing: ReadonlySet<string>, common: Common): Setting {
  const { routing } = spec.model;
  const others = Object.entries(otherKeys(spec))
    .filter(([key]) => distinguishing.has(key))
    .map(([key, value]) => `${key} ${value}`)
    .join(', ');
  const shortLabel = mainLabel(spec).join(', ');
  const own = Object.entries(otherKeys(spec))
    .filter(([key, value]) => distinguishing.has(key) && common.keys[key] !== value)
    .map(([key, value]) => `${key} ${value}`);
  const everyOne = routing === null ? '' : everyBlock(routing.frequency);
  const main = mainLabel(spec).filter((part) => part !== everyOne || routing?.frequency !== common.frequency);
  const label = others === '' ? shortLabel : `${shortLabel}, ${others}`;
  return {
    key: label,
    label,
    shortLabel,
    name: [...main, ...own].join(', '),
    variant: spec.variant,
    capacity: routing?.capacity ?? null,
    frequency: routing?.frequency ?? null,
    gate: routing?.gate ?? null,
    aux_loss_weight: routing?.aux_loss_weight ?? 0,
    others,
  };
}

function mainLabel({ variant, model: { routing } }: RunSpec): string[] {
  const name = VARIANTS[variant].label;
  if (routing === null) return [name];
  const { capacity, frequency, gate, aux_loss_weight } = routing;
  return [
    `${name} ${Number((100 * capacity).toPrecision(4))}%`,
    everyBlock(frequency),
    ...(gate === 'raw' ? [] : [`${gate} gate`]),
    ...(aux_loss_weight === 0 ? [] : [`auxiliary loss ${aux_loss_weight}`]),
  ];
}

/** 1: every block; 2: every other block; 3: every 3rd block; 21: every 21st block. */
export function everyBlock(frequency: number): string {
  if (frequency === 1) return 'every block';
  return frequency === 2 ? 'every other block' : `every ${ordinal(frequency)} block`;
}

const ORDINAL_SUFFIXES: Partial<Record<Intl.LDMLPluralRule, string>> = { one: 'st', two: 'nd', few: 'rd' };
const ordinals = new Intl.PluralRules('en', { type: 'ordinal' });

/** 3 → 3rd, 11 → 11th, 21 → 21st. */
function ordinal(n: number): string {
  return `${n}${ORDINAL_SUFFIXES[ordinals.select(n)] ?? 'th'}`;
}

function distinguishingKeys(specs: readonly RunSpec[]): Set<string> {
  const seen = new Map<string, Named>();
  const differing = new Set<string>();
  for (const spec of specs) {
    const group = [spec.flop_budget, ...mainLabel(spec)].join();
    const keys = otherKeys(spec);
    const first = seen.get(group);
    if (first === undefined) seen.set(group, keys);
    else for (const key of Object.keys(keys)) if (first[key] !== keys[key]) differing.add(key);
  }
  return differing;
}

/** Keys other than variant, routing and size that may make runs incomparable. */
function otherKeys(spec: RunSpec): Named {
  const { model, training, data } = spec;
  const { sequence_length, tie_embeddings, vocab_size, d_model, experts } = model;
  return {
    'sequence length': String(sequence_length),
    batch: String(spec.batch_sequences),
    'tied embeddings': String(tie_embeddings),
    vocabulary: String(vocab_size),
    'predictor width': String(model.routing?.predictor_hidden ?? '-'),
    parametrization: training.parametrization ?? 'standard',
    'learning rate': rateName(training, d_model),
    'weight decay': String(training.weight_decay),
    'gradient clip': String(training.gradient_clip),
    experts: String(experts?.count ?? '-'),
    'no-ops': String(experts?.no_ops ?? '-'),
    'capacity factor': String(experts === null ? '-' : Number(experts.capacity_factor.toPrecision(4))),
    'balance weight': String(experts?.balance_loss_weight ?? '-'),
    'no-ops balanced': String(experts?.balance_no_ops ?? '-'),
    data: dataName(data),
  };
}

/** `auto` for the automatic rate, which depends on the width, so that all models trained with it are one setting. */
function rateName({ learning_rate: rate, parametrization }: RunSpec['training'], d_model: number): string {
  const automatic = automaticLearningRate(parametrization ?? 'standard', d_model);
  return Math.abs(rate / automatic - 1) < 1e-9 ? 'auto' : String(Number(rate.toPrecision(4)));
}

function dataName(data: RunSpec['data']): string {
  return ('text' in data ? data.text : data.train).join(' ');
}

/** A model in a sentence: `MoD 12.5%, 12 layers of 256`. */
export function modelName({
  setting,
  row,
}: {
  setting: Pick<Setting, 'name'>;
  row: { n_layers: number; d_model: number };
}): string {
  return `${setting.name}, ${row.n_layers} layers of ${row.d_model}`;
}
