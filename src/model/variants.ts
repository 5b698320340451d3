/** The variants that a sweep compares, one table: a new variant is an entry here. */
import type { RouterName } from './config.js';

/** Kinds of variants: one colour scale and one symbol of a report each. */
export type VariantFamily = 'dense' | 'mod' | 'random' | 'experts';

/** How the MLPs of a variant's blocks are experts. */
export interface ExpertsForm {
  /** The router of its routed blocks; null: every block processes every token. */
  router: RouterName | null;
  /** Whether no-ops are among the choices (Raposo et al. 2024, section 4.3). */
  noOps: boolean;
  /** Whether the experts have as many slots as they would have beside no-ops, which costs the same FLOPs. */
  reducedCapacity: boolean;
}

interface VariantTraits {
  /** In reports. */
  label: string;
  family: VariantFamily;
  /** Null: one MLP a block. Which blocks are routed is then the router's matter: see `Router.variant`. */
  experts: ExpertsForm | null;
}

export const VARIANTS = {
  baseline: { label: 'dense', family: 'dense', experts: null },
  mod: { label: 'MoD', family: 'mod', experts: null },
  random: { label: 'random', family: 'random', experts: null },
  moe: {
    label: 'MoE',
    family: 'experts',
    experts: { router: null, noOps: false, reducedCapacity: false },
  },
  'mode-staged': {
    label: 'staged MoDE',
    family: 'experts',
    experts: { router: 'learned', noOps: false, reducedCapacity: false },
  },
  'mode-integrated': {
    label: 'integrated MoDE',
    family: 'experts',
    experts: { router: null, noOps: true, reducedCapacity: false },
  },
  'moe-reduced': {
    label: 'MoE of reduced capacity',
    family: 'experts',
    experts: { router: null, noOps: false, reducedCapacity: true },
  },
} as const satisfies Record<string, VariantTraits>;

export type Variant = keyof typeof VARIANTS;
/** Variants whose MLPs are experts: what `expert_variants` of a sweep file lists. */
export type ExpertVariant = {
  [V in Variant]: (typeof VARIANTS)[V]['experts'] extends null ? never : V;
}[Variant];

export const VARIANT_NAMES = Object.keys(VARIANTS) as readonly Variant[];
export const EXPERT_VARIANTS = VARIANT_NAMES.filter(isExpertVariant);

function isExpertVariant(variant: Variant): variant is ExpertVariant {
  return VARIANTS[variant].experts !== null;
}
