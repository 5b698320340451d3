/** Formats numbers and tables for people: counts, rates, durations, aligned columns. */

const UNITS: [number, string][] = [
  [1e15, 'P'],
  [1e12, 'T'],
  [1e9, 'G'],
  [1e6, 'M'],
  [1e3, 'k'],
];

/** 12345678 → 12.3M; three significant digits. */
export function rate(value: number): string {
  for (const [size, unit] of UNITS)
    if (Math.abs(value) >= size) return `${Number((value / size).toPrecision(3))}${unit}`;
  return String(Number(value.toPrecision(3)));
}

/** Bytes → 512 B, 1.5 KiB, 22.3 GiB; three significant digits. */
export function bytes(value: number): string {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB'];
  const power = Math.min(units.length - 1, Math.max(0, Math.floor(Math.log2(Math.max(1, value)) / 10)));
  return `${Number((value / 1024 ** power).toPrecision(3))} ${units[power]}`;
}

/** 1234567 → 1,234,567 */
export function count(value: number): string {
  return value.toLocaleString('en-US');
}

/** `1 run`, `9 runs`. */
export function counted(count: number, noun: string): string {
  return `${count} ${noun}${count === 1 ? '' : 's'}`;
}

/** Seconds → 42s, 3m05s, 2h07m, 3d04h. */
export function duration(seconds: number): string {
  const whole = Math.max(0, Math.round(seconds));
  const two = (value: number) => String(value).padStart(2, '0');
  if (whole < 60) return `${whole}s`;
  if (whole < 3600) return `${Math.floor(whole / 60)}m${two(whole % 60)}s`;
  if (whole < 86400) return `${Math.floor(whole / 3600)}h${two(Math.floor((whole % 3600) / 60))}m`;
  return `${Math.floor(whole / 86400)}d${two(Math.floor((whole % 86400) / 3600))}h`;
}

/** Changes how a padded cell of a table looks, without changing its width. */
export type Paint = (padded: string, row: number, column: number) => string;

/** A table with a header line; columns of numbers are aligned right. Every row has one cell per column. */
export function table(head: string[], rows: string[][], paint: Paint = (padded) => padded): string {
  const widths = head.map((cell, i) => Math.max(cell.length, ...rows.map((row) => (row[i] ?? '').length)));
  const numeric = head.map((_, i) =>
    rows.every((row) => /^[-+]?(\d[-+\d.,%×e]*( ?[a-zA-Z]{1,3})?)?$/.test(row[i] ?? '') && row[i] !== ''),
  );
  const line = (cells: string[], painted: (padded: string, column: number) => string) =>
    cells
      .map((cell, i) => {
        const width = widths[i] as number;
        if (numeric[i]) return painted(cell.padStart(width), i);
        return painted(i === cells.length - 1 ? cell : cell.padEnd(width), i);
      })
      .join('  ')
      .trimEnd();
  return [
    line(head, (padded) => padded),
    ...rows.map((row, y) => line(row, (text, x) => paint(text, y, x))),
  ].join('\n');
}

/** The start of a text that is longer than a width: in run ids budget, setting, size and seed come first. */
export function elided(text: string, width: number): string {
  return text.length <= width ? text : `${text.slice(0, Math.max(0, width - 2))}..`;
}

/** A loss in nats: four decimals, or an exponent if the run has diverged. */
export function lossText(loss: number | null): string {
  if (loss === null) return '-';
  return Math.abs(loss) < 1000 ? loss.toFixed(4) : loss.toExponential(1);
}

/** The first `most` texts of a list, then the number of the others. */
export function firstOf(texts: readonly string[], most = 5): string[] {
  return texts.length <= most ? [...texts] : [...texts.slice(0, most), `and ${texts.length - most} more`];
}
