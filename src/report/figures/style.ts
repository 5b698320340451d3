/** The style of a setting in every figure: colour and symbol, readable on light and dark backgrounds. */
import { VARIANTS, type VariantFamily } from '../../model/variants.js';
import type { Setting } from '../settings.js';
import type { LegendEntry, MarkSymbol } from './figure.js';

export interface Style {
  color: string;
  symbol: MarkSymbol;
}

/** The colours of Okabe and Ito, distinct for any colour vision, that are visible on white and on black. */
const MOD_COLORS = ['#1f7bb6', '#009e73', '#b8679a', '#4aa3d8', '#8f7f00', '#7a6fd0'];
const RANDOM_COLORS = ['#d55e00', '#e08a3c', '#b0683a'];
const EXPERT_COLORS = ['#8f7f00', '#7a6fd0', '#b8679a', '#4aa3d8'];
const DENSE_COLORS = ['#808080', '#a08f7a', '#6f8a8a'];

/**
 * The styles of all settings of a report, by key. Colours are assigned in the order of the settings. A routing setting has
 * the same style under all training settings.
 */
export function stylesOf(settings: readonly Setting[]): Map<string, Style> {
  const used: Partial<Record<VariantFamily, number>> = {};
  const byLabel = new Map<string, Style>();
  for (const { shortLabel, variant } of settings) {
    if (byLabel.has(shortLabel)) continue;
    const { family } = VARIANTS[variant];
    const { colors, symbol } = FAMILIES[family];
    const n = used[family] ?? 0;
    byLabel.set(shortLabel, { color: colors[n] ?? anotherColor(n), symbol });
    used[family] = n + 1;
  }
  return new Map(settings.map(({ key, shortLabel }) => [key, byLabel.get(shortLabel) as Style]));
}

/** A colour for a family with more settings than colours: hues at multiples of the golden angle, all distinct. */
function anotherColor(n: number): string {
  const hue = Math.round((n * 137.508) % 360);
  return `hsl(${hue}, ${n % 2 === 0 ? 55 : 40}%, 48%)`;
}

const FAMILIES: Record<VariantFamily, { colors: string[]; symbol: MarkSymbol }> = {
  dense: { colors: DENSE_COLORS, symbol: 'circle' },
  mod: { colors: MOD_COLORS, symbol: 'square' },
  random: { colors: RANDOM_COLORS, symbol: 'triangle' },
  experts: { colors: EXPERT_COLORS, symbol: 'diamond2' },
};

/** The legend of some settings; training keys are left out if they are the same for all. */
export function legendOf(settings: readonly Setting[], styles: ReadonlyMap<string, Style>): LegendEntry[] {
  const differ = new Set(settings.map(({ others }) => others)).size > 1;
  return settings.map(({ key, label, shortLabel }) => ({
    label: differ ? label : shortLabel,
    ...(styles.get(key) as Style),
  }));
}
