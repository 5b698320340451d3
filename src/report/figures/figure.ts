/** The type of the report's figures, and their drawing by Observable Plot without a browser. */
import * as Plot from '@observablehq/plot';
import { parseHTML } from 'linkedom';
import { quantile } from '../../statistics.js';

export type Cell = string | number | null;

/** The numbers behind a figure. */
export interface DataTable {
  head: string[];
  rows: Cell[][];
}

export interface Figure {
  /** The name of its file and its anchor in the page. */
  id: string;
  title: string;
  /** The figure of Raposo et al. 2024 that it reproduces; null if it is not in the paper. */
  paper: string | null;
  /** The main result, as a sentence computed from the data. */
  reading: string;
  /** Notes: runs outside the frame, settings that are not drawn. */
  notes?: string;
  /** A whole SVG document: title, description, legend and a `<title>` at each mark. */
  svg: string;
  table: DataTable;
  /** Whether it takes the full width of the page. */
  wide: boolean;
}

/** A figure that lacks data. */
export interface MissingFigure {
  title: string;
  paper: string | null;
  /** What is missing. */
  needs: string;
}

/** The frame ends at this many times the distance between the lowest loss and the quantile `MOST`. */
const FAR = 5;
const MOST = 0.9;

/**
 * The range of losses that a figure shows: a few runs that did not learn must not flatten all others. `beyond` lists the
 * losses above the range.
 */
export function lossFrame(losses: readonly number[]): {
  domain: [low: number, high: number];
  beyond: number[];
} {
  const low = Math.min(...losses);
  const fence = low + FAR * (quantile(losses, MOST) - low);
  const inside = losses.filter((loss) => loss <= fence);
  const margin = 0.04 * (Math.max(...inside) - low);
  return {
    domain: [low - margin, Math.max(...inside) + margin],
    beyond: losses.filter((loss) => loss > fence).sort((a, b) => a - b),
  };
}

/** The note about losses outside the frame of a figure. */
export function beyondText(beyond: readonly number[]): string {
  if (beyond.length === 0) return '';
  const [least, most] = [beyond[0], beyond.at(-1)].map((loss) => (loss as number).toFixed(2));
  const range = least === most ? least : `${least} to ${most}`;
  return `Above the frame: ${beyond.length === 1 ? `a run at ${range}` : `${beyond.length} runs at ${range}`} nats.`;
}

/** Joins sentences; empty ones are left out. */
export const sentences = (...all: string[]): string => all.filter((one) => one !== '').join(' ');

export interface LegendEntry {
  label: string;
  color: string;
  /** The symbol of points; null: a line. */
  symbol?: MarkSymbol;
  dashed?: boolean;
}

export type MarkSymbol = 'circle' | 'square' | 'triangle' | 'diamond2' | 'times';

export interface Drawing {
  title: string;
  /** The axes, for screen readers. */
  description: string;
  legend: readonly LegendEntry[];
  plot: Plot.PlotOptions;
  width?: number;
  height?: number;
}

const WIDTH = 460;
const HEIGHT = 340;
const FONT_SIZE = 12;
const FONT = "system-ui, -apple-system, 'Segoe UI', 'PT Sans', sans-serif";
const LEGEND_LINE = 18;
/** The y position of the legend: under the label of the y axis, which Plot puts at the top. */
const LABEL_LINE = 26;
/** Mean width of a character over the font size; slightly too large, so that legends wrap early and are not cut off. */
const CHARACTER = 0.56;

/** Draws on a transparent background with text in the current colour, for light and dark pages. */
export function draw({ title, description, legend, plot, width = WIDTH, height = HEIGHT }: Drawing): string {
  const { document } = parseHTML('<!doctype html><html><body></body></html>');
  const lines = legendLines(legend, width);
  const marginTop = (plot.marginTop ?? 24) + lines.length * LEGEND_LINE;
  const svg = Plot.plot({
    marginLeft: 54,
    marginRight: 16,
    marginBottom: 40,
    ...plot,
    // Few fonts include the arrows that Plot adds to labels.
    x: { labelArrow: 'none', ...plot.x },
    y: { labelArrow: 'none', ...plot.y },
    marginTop,
    width,
    height: height + lines.length * LEGEND_LINE,
    className: 'plot',
    style: { fontSize: `${FONT_SIZE}px`, fontFamily: FONT, background: 'none', overflow: 'visible' },
    document: document as never,
  }) as unknown as SvgElement;
  svg.setAttribute('xmlns', 'http://www.w3.org/2000/svg');
  svg.setAttribute('role', 'img');
  svg.setAttribute('aria-label', `${title}. ${description}`);
  svg.insertAdjacentHTML(
    'afterbegin',
    `<title>${escapeXml(title)}</title><desc>${escapeXml(description)}</desc>`,
  );
  svg.insertAdjacentHTML('beforeend', legendSvg(lines));
  return svg.outerHTML;
}

/** The part of an SVG element that is used here, as the program is compiled without the browser's types. */
interface SvgElement {
  outerHTML: string;
  setAttribute(name: string, value: string): void;
  insertAdjacentHTML(where: string, html: string): void;
}

interface PlacedEntry extends LegendEntry {
  x: number;
}

function legendLines(legend: readonly LegendEntry[], width: number): PlacedEntry[][] {
  const lines: PlacedEntry[][] = [];
  let x = Number.POSITIVE_INFINITY;
  for (const entry of legend) {
    const length = 18 + entry.label.length * FONT_SIZE * CHARACTER + 12;
    if (x + length > width) {
      lines.push([]);
      x = 6;
    }
    lines.at(-1)?.push({ ...entry, x });
    x += length;
  }
  return lines;
}

function legendSvg(lines: PlacedEntry[][]): string {
  const entries = lines.flatMap((line, i) =>
    line.map(({ x, ...entry }) => {
      const y = LABEL_LINE + i * LEGEND_LINE;
      return `<g transform="translate(${x},${y})">${legendMark(entry)}<text x="12" dy="0.32em" text-anchor="start">${escapeXml(entry.label)}</text></g>`;
    }),
  );
  return `<g aria-hidden="true">${entries.join('')}</g>`;
}

const SYMBOL_PATHS: Record<MarkSymbol, string> = {
  circle: 'M-4,0a4,4 0 1,0 8,0a4,4 0 1,0 -8,0',
  square: 'M-3.5,-3.5h7v7h-7z',
  triangle: 'M0,-4.5L4.2,3.2H-4.2Z',
  diamond2: 'M0,-4.5L4.5,0L0,4.5L-4.5,0Z',
  times: 'M-3.5,-3.5L3.5,3.5M-3.5,3.5L3.5,-3.5',
};

function legendMark({ symbol, color, dashed }: LegendEntry): string {
  const dashes = dashed === true ? ' stroke-dasharray="5,3"' : '';
  if (symbol === undefined) return `<line x1="-5" x2="7" stroke="${color}" stroke-width="2"${dashes}></line>`;
  const paint = symbol === 'times' ? `stroke="${color}" stroke-width="2" fill="none"` : `fill="${color}"`;
  // With closing tags, since HTML has no self-closing ones.
  return `<path d="${SYMBOL_PATHS[symbol]}" ${paint}></path>`;
}

/** Escapes text for XML and HTML, in content and in quoted attributes. */
export function escapeXml(text: string): string {
  const entities: Record<string, string> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' };
  return text.replace(/[&<>"]/g, (character) => entities[character] as string);
}
