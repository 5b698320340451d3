import { describe, expect, it } from 'vitest';
import { stylesOf } from '../../src/report/figures/style.js';
import type { Setting } from '../../src/report/settings.js';

const setting = (variant: Setting['variant'], shortLabel: string, others = ''): Setting =>
  ({ key: `${shortLabel}, ${others}`, label: shortLabel, shortLabel, variant, others }) as Setting;

describe('stylesOf', () => {
  it('gives every setting of a family a look of its own, however many there are', () => {
    const settings = Array.from({ length: 24 }, (_, i) => setting('mod', `MoD ${i}`));
    const styles = [...stylesOf(settings).values()];
    expect(new Set(styles.map(({ color }) => color)).size).toBe(24);
    expect(new Set(styles.map(({ symbol }) => symbol))).toEqual(new Set(['square']));
  });

  it('gives a setting one look, however it is trained', () => {
    const styles = stylesOf([setting('baseline', 'dense', 'a'), setting('baseline', 'dense', 'b')]);
    expect(styles.get('dense, a')).toEqual(styles.get('dense, b'));
  });
});
