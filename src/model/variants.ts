/** The variants of a model that a sweep compares. */

export type Variant = 'baseline' | 'mod' | 'random' | ExpertVariant;

/** Variants whose MLPs are experts. */
export const EXPERT_VARIANTS = ['moe', 'mode-staged', 'mode-integrated', 'moe-reduced'] as const;
export type ExpertVariant = (typeof EXPERT_VARIANTS)[number];

export function isExpertVariant(variant: Variant): variant is ExpertVariant {
  return (EXPERT_VARIANTS as readonly string[]).includes(variant);
}
