/** The variants that a sweep compares, one table: a new variant is an entry here. */
import type { RouterName } from './config.js';

/** Groups of variants; each has one colour scale and one symbol in reports. */
export type VariantFamily = 'dense' | 'mod' | 'random' | 'experts';

/** How a variant uses experts. */
export interface ExpertsSetting {
  /** The router of its routed blocks; null: every block processes every token. */
  router: RouterName | null;
  /** Whether no-ops are among the choices (Raposo et al. 2024, section 4.3). */
  noOps: boolean;
  /** Whether the experts have only as many slots as with no-ops among the choices, and so cost the same FLOPs. */
  reducedCapacity: boolean;
}

interface VariantTraits {
  /** Its name in reports. */
  label: string;
  family: VariantFamily;
  /** Null: one MLP per block, and the router determines the variant (`Router.variant`). */
  experts: ExpertsSetting | null;
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
