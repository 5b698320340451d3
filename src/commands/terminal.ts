/** What the output of a command can show: its width and height, colours, and priorities of the systemd journal. */
import { fstatSync } from 'node:fs';
import { styleText } from 'node:util';

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
