/** What the output of a command can show: its width and height, and colours. */
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
