/** The style of a setting in every figure: colour, symbol and dash, distinct for any colour vision and in grey. */
import { VARIANTS, type VariantFamily } from '../../model/variants.js';
import type { Setting } from '../settings.js';
import type { LegendEntry, MarkSymbol } from './figure.js';

export interface Style {
  /** As on a white background; `currentColor` is the text's. */
  color: string;
  symbol: MarkSymbol;
  /** The dash array of lines; empty: solid. */
  dash: string;
}

interface FamilyStyle {
  /** Each on white and on the dark page's background, at a contrast of 3 or more. */
  colors: readonly (readonly [light: string, dark: string])[];
  symbols: readonly [MarkSymbol, ...MarkSymbol[]];
  dash: string;
}

/** Chosen for large differences (CIEDE2000) under every simulated colour vision; symbols and dashes separate the rest. */
export const FAMILY_STYLES: Record<VariantFamily, FamilyStyle> = {
  dense: { colors: [['currentColor', 'currentColor']], symbols: ['circle'], dash: '' },
  mod: {
    colors: [
      ['#008e73', '#00a67c'],
      ['#6d50da', '#9a6fe0'],
      ['#c171f6', '#d798ff'],
      ['#1c008f', '#97e1f9'],
      ['#3c5aa1', '#707db0'],
      ['#8f73a4', '#6fc7d8'],
    ],
    symbols: ['square', 'diamond2', 'hexagon', 'star', 'cross'],
    dash: '9,2',
  },
  random: {
    colors: [
      ['#8f4700', '#ff9440'],
      ['#713d2a', '#fdac73'],
      ['#b37964', '#90643b'],
    ],
    symbols: ['triangle', 'cross', 'diamond2', 'star'],
    dash: '2,3',
  },
  experts: {
    colors: [
      ['#771fa5', '#ba7ce4'],
      ['#d45881', '#bc5f70'],
      ['#bd0a39', '#e2474f'],
      ['#481d62', '#c04fa4'],
    ],
    symbols: ['star', 'diamond2', 'hexagon', 'cross'],
    dash: '6,2,1.5,2',
  },
};

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
    const n = used[family] ?? 0;
    byLabel.set(shortLabel, styleOf(family, n));
    used[family] = n + 1;
  }
  return new Map(settings.map(({ key, shortLabel }) => [key, byLabel.get(shortLabel) as Style]));
}

/** The style of the n-th setting of a family; when the symbols repeat, the dash is another one. */
function styleOf(family: VariantFamily, n: number): Style {
  const { colors, symbols, dash } = FAMILY_STYLES[family];
  const round = Math.floor(n / symbols.length);
  return {
    color: colors[n]?.[0] ?? anotherColor(n),
    symbol: symbols[n % symbols.length] as MarkSymbol,
    dash: round === 0 ? dash : `${dash === '' ? '' : `${dash},`}${1 + 2 * round},2`,
  };
}

/** A colour for a family with more settings than colours: hues at multiples of the golden angle, all distinct. */
function anotherColor(n: number): string {
  const hue = Math.round((n * 137.508) % 360);
  return `hsl(${hue}, ${n % 2 === 0 ? 55 : 40}%, 48%)`;
}

const THEMED = Object.values(FAMILY_STYLES)
  .flatMap(({ colors }) => colors)
  .filter(([light]) => light !== 'currentColor');
const variable = (light: string) => `--${light.slice(1)}`;

/** The custom properties of the colours, for light or for dark pages. */
export function colorProperties(theme: 'light' | 'dark'): string {
  return THEMED.map(([light, dark]) => `${variable(light)}:${theme === 'light' ? light : dark};`).join('');
}

/** A figure whose colours follow the page's theme; a figure in its own file keeps the colours for white. */
export function themed(svg: string): string {
  return THEMED.reduce((text, [light]) => text.replaceAll(`"${light}"`, `"var(${variable(light)})"`), svg);
}

/** The legend of some settings. */
export function legendOf(settings: readonly Setting[], styles: ReadonlyMap<string, Style>): LegendEntry[] {
  return settings.map(({ key, name, shortLabel }) => ({
    label: name,
    series: shortLabel,
    ...(styles.get(key) as Style),
  }));
}
