/** What the output of a command can show: its width and height, colours, and priorities of the systemd journal. */
import { closeSync, fstatSync, openSync } from 'node:fs';
import { isatty } from 'node:tty';
import { styleText } from 'node:util';
import { elided, type Paint, table } from '../format.js';

export type Output = Pick<NodeJS.WriteStream, 'write' | 'isTTY'> &
  Partial<Pick<NodeJS.WriteStream, 'columns' | 'rows' | 'hasColors'>>;

export type Colour = 'red' | 'green' | 'yellow' | 'cyan' | 'dim' | 'bold';

export interface Terminal {
  /** Characters in a line and lines on the screen; infinite for a pipe or a file. */
  columns: number;
  rows: number;
  /** Colours a text, or returns it as it is if the output has no colours. */
  paint(colour: Colour, text: string): string;
}

/** Colours are used on a terminal only. Node's `hasColors` follows NO_COLOR, FORCE_COLOR and TERM=dumb. */
export function terminalOf(out: Output): Terminal {
  if (!out.isTTY) {
    return {
      columns: Number.POSITIVE_INFINITY,
      rows: Number.POSITIVE_INFINITY,
      paint: (_, text) => text,
    };
  }
  const coloured = out.hasColors?.() ?? false;
  return {
    columns: out.columns ?? 80,
    rows: out.rows ?? 24,
    paint: (colour, text) => (coloured ? styleText(colour, text, { validateStream: false }) : text),
  };
}

/**
 * Replaces a terminal that was closed in the meantime by /dev/null when the process exits: Node restores the settings of the
 * terminals that it found at its start, and aborts where one is gone.
 */
export function releaseLostTerminals(): void {
  const terminals = [0, 1, 2].filter((descriptor) => isatty(descriptor));
  process.on('exit', () => {
    for (const descriptor of terminals) {
      if (isatty(descriptor)) continue;
      closeSync(descriptor);
      openSync('/dev/null', 'r+'); // takes the lowest free descriptor, the one that was closed
    }
  });
}

/** Prefixes of a line in the systemd journal (sd-daemon(3)): its priority. */
export const JOURNAL_PRIORITY = { error: '<3>', notice: '<5>' } as const;

/**
 * Whether a file descriptor is connected to the systemd journal, which stores the time of each line and reads its priority:
 * `JOURNAL_STREAM` has the device and inode of the descriptor (systemd.exec(5)).
 */
export function isJournal(descriptor: number, env: NodeJS.ProcessEnv = process.env): boolean {
  if (env.JOURNAL_STREAM === undefined) return false;
  try {
    const { dev, ino } = fstatSync(descriptor, { bigint: true });
    return env.JOURNAL_STREAM === `${dev}:${ino}`;
  } catch {
    return false;
  }
}

/** A column of a table that fits the terminal. */
export interface FittedColumn<Row> {
  head: string;
  cell: (row: Row) => string;
  /** Columns are left out in this order where the lines are too long; 0: never. */
  drop: number;
}

/** Characters of the first column that are shown at least before columns are left out. */
const MIN_FIRST = 36;

/** A table of at most `width` characters: columns are left out, then the cells of the first one are shortened. */
export function fittedTable<Row>(
  all: readonly FittedColumn<Row>[],
  rows: readonly Row[],
  width: number,
  paint?: Paint,
): string {
  const [first, ...others] = all as [FittedColumn<Row>, ...FittedColumn<Row>[]];
  const cells = new Map(all.map((column) => [column, rows.map(column.cell)]));
  const widest = (column: FittedColumn<Row>) =>
    Math.max(column.head.length, ...(cells.get(column) as string[]).map((cell) => cell.length));
  const widths = new Map(all.map((column) => [column, widest(column)]));
  let used = others;
  const room = () => width - used.reduce((sum, column) => sum + 2 + (widths.get(column) as number), 0);
  const drops = [...new Set(others.map(({ drop }) => drop))].filter((drop) => drop > 0).sort((a, b) => a - b);
  for (const drop of drops) {
    if (room() >= Math.min(widths.get(first) as number, MIN_FIRST)) break;
    used = used.filter((column) => column.drop !== drop);
  }
  const most = Math.max(8, room());
  const shown = [first, ...used];
  const lines = rows.map((_, y) =>
    shown.map((column, x) => {
      const cell = cells.get(column)?.[y] as string;
      return x === 0 ? elided(cell, most) : cell;
    }),
  );
  return table(
    shown.map(({ head }) => head),
    lines,
    paint,
  );
}
