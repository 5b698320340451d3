import { describe, expect, it } from 'vitest';
import { stylesOf } from '../../src/report/figures/style.js';
import { everyBlock, type Setting } from '../../src/report/settings.js';

const setting = (variant: Setting['variant'], shortLabel: string, others = ''): Setting =>
  ({ key: `${shortLabel}, ${others}`, label: shortLabel, shortLabel, variant, others }) as Setting;

describe('stylesOf', () => {
  it('gives every setting of a family a distinct style, for any number of settings', () => {
    const settings = Array.from({ length: 24 }, (_, i) => setting('mod', `MoD ${i}`));
    const styles = [...stylesOf(settings).values()];
    expect(new Set(styles.map(({ color }) => color)).size).toBe(24);
    expect(new Set(styles.map(({ symbol }) => symbol))).toEqual(new Set(['square']));
  });

  it('gives a setting the same style for every way of training', () => {
    const styles = stylesOf([setting('baseline', 'dense', 'a'), setting('baseline', 'dense', 'b')]);
    expect(styles.get('dense, a')).toEqual(styles.get('dense, b'));
  });
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
