import {
  type Color,
  differenceCiede2000,
  filterDeficiencyDeuter,
  filterDeficiencyProt,
  filterDeficiencyTrit,
  filterGrayscale,
  parse,
  wcagContrast,
} from 'culori';
import { describe, expect, it } from 'vitest';
import { VARIANT_NAMES, VARIANTS } from '../../src/model/variants.js';
import { colorProperties, FAMILY_STYLES, type Style, stylesOf } from '../../src/report/figures/style.js';
import { everyBlock, type Setting } from '../../src/report/settings.js';

const setting = (variant: Setting['variant'], shortLabel: string, others = ''): Setting =>
  ({ key: `${shortLabel}, ${others}`, label: shortLabel, shortLabel, variant, others }) as Setting;

const THEMES = {
  light: { background: '#ffffff', text: '#1c1e21' },
  dark: { background: '#15171a', text: '#e4e6e9' },
} as const;
type Theme = keyof typeof THEMES;

/** A colour of white backgrounds as it is in a theme. */
function shown(color: string, theme: Theme): string {
  if (color === 'currentColor') return THEMES[theme].text;
  const pair = Object.values(FAMILY_STYLES)
    .flatMap(({ colors }) => colors)
    .find(([light]) => light === color);
  return pair === undefined ? color : pair[theme === 'light' ? 0 : 1];
}

type Vision = (color: Color | undefined) => Color | undefined;
const VISIONS: Record<string, Vision> = {
  usual: (color) => color,
  deuteranopia: filterDeficiencyDeuter(1) as Vision,
  protanopia: filterDeficiencyProt(1) as Vision,
  tritanopia: filterDeficiencyTrit(1) as Vision,
  grey: filterGrayscale(1) as Vision,
};
const difference = differenceCiede2000();

describe('stylesOf', () => {
  it('gives every setting of a family a distinct style, for any number of settings', () => {
    const settings = Array.from({ length: 24 }, (_, i) => setting('mod', `MoD ${i}`));
    const styles = [...stylesOf(settings).values()];
    expect(new Set(styles.map(({ color }) => color)).size).toBe(24);
    expect(new Set(styles.map(({ symbol, dash }) => `${symbol} ${dash}`)).size).toBe(24);
  });

  it('gives a setting the same style for every way of training', () => {
    const styles = stylesOf([setting('baseline', 'dense', 'a'), setting('baseline', 'dense', 'b')]);
    expect(styles.get('dense, a')).toEqual(styles.get('dense, b'));
  });
});

describe.each(Object.keys(THEMES) as Theme[])('on a %s page', (theme) => {
  const settings = VARIANT_NAMES.flatMap((variant) =>
    Array.from({ length: variant === 'baseline' ? 1 : 8 }, (_, i) => setting(variant, `${variant} ${i}`)),
  );
  const styles = [...stylesOf(settings).values()];

  it.each(Object.entries(VISIONS))(
    '%s: every pair differs by 20 in CIEDE2000, or in symbol or dash',
    (_, see) => {
      const close = (a: Style, b: Style) => {
        const [first, second] = [a, b].map(({ color }) => see(parse(shown(color, theme))));
        return first === undefined || second === undefined || difference(first, second) < 20;
      };
      const alike = styles.flatMap((a, i) =>
        styles.slice(0, i).filter((b) => a.symbol === b.symbol && a.dash === b.dash && close(a, b)),
      );
      expect(alike).toEqual([]);
    },
  );

  it.each(Object.entries(VISIONS))(
    '%s: dense, the first MoD and random differ by colour alone',
    (name, see) => {
      const first = (['baseline', 'mod', 'random'] as const).map((variant) => {
        const { color } = stylesOf([setting(variant, variant)])
          .values()
          .next().value as Style;
        return see(parse(shown(color, theme)));
      });
      for (const [i, a] of first.entries())
        for (const b of first.slice(0, i)) {
          if (a === undefined || b === undefined) throw new Error('no colour');
          // In grey only lightness is left.
          expect(difference(a, b)).toBeGreaterThan(name === 'grey' ? 8 : 15);
        }
    },
  );

  it('colours have a contrast of 3 with the background, as WCAG 2.2, 1.4.11, requires of graphics', () => {
    for (const { colors } of Object.values(FAMILY_STYLES))
      for (const [light] of colors)
        expect(wcagContrast(shown(light, theme), THEMES[theme].background), light).toBeGreaterThanOrEqual(3);
  });

  it('the page has a property for each colour', () => {
    const named = Object.values(FAMILY_STYLES).flatMap(({ colors }) => colors.map(([light]) => light));
    for (const color of named.filter((one) => one !== 'currentColor'))
      expect(colorProperties(theme)).toContain(`--${color.slice(1)}:${shown(color, theme)};`);
  });
});

it('families have different dashes', () => {
  const families = [...new Set(VARIANT_NAMES.map((variant) => VARIANTS[variant].family))];
  expect(new Set(families.map((family) => FAMILY_STYLES[family].dash)).size).toBe(families.length);
});

it.each([
  [1, 'every block'],
  [2, 'every other block'],
  [3, 'every 3rd block'],
  [11, 'every 11th block'],
  [21, 'every 21st block'],
  [22, 'every 22nd block'],
])('names the routing frequency %i', (frequency, text) => {
  expect(everyBlock(frequency)).toBe(text);
});
