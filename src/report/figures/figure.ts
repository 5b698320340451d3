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

/** The frame ends at this many times the distance between the lowest loss and the quantile `MOST` of the leading losses. */
const FAR = 2;
const MOST = 0.75;

export interface LossFrame {
  domain: [low: number, high: number];
  /** The losses above the range, ascending. */
  beyond: number[];
}

/**
 * The range of losses that a figure shows, from its leading variants: curves that are far above them must not flatten the
 * differences that matter.
 */
export function lossFrame(losses: readonly number[], leading: readonly number[] = losses): LossFrame {
  const low = Math.min(...losses);
  const lead = leading.length === 0 ? losses : leading;
  const fence = low + FAR * Math.max(quantile(lead, MOST) - low, 1e-3 * Math.abs(low));
  const inside = losses.filter((loss) => loss <= fence);
  const margin = 0.04 * (Math.max(...inside) - low);
  return {
    domain: [low - margin, Math.max(...inside) + margin],
    beyond: losses.filter((loss) => loss > fence).sort((a, b) => a - b),
  };
}

/** The part of a frame's height that is added for the strip of losses far above. */
const STRIP = 0.16;

/** The y domain of a frame with the strip above it, and the place of a loss in it: losses above the frame keep their order. */
export function withStrip({ domain: [low, high], beyond }: LossFrame): {
  domain: [low: number, high: number];
  place: (loss: number) => number;
} {
  if (beyond.length === 0) return { domain: [low, high], place: (loss) => loss };
  const height = STRIP * (high - low);
  const [least, most] = [beyond[0] as number, beyond.at(-1) as number];
  const share = (loss: number) => (most === least ? 0.5 : (loss - least) / (most - least));
  return {
    domain: [low, high + height],
    place: (loss) => (loss <= high ? loss : high + height * (0.15 + 0.4 * share(loss))),
  };
}

/** The ground of the strip and its caption. */
export function stripMarks(frame: LossFrame): Plot.Markish[] {
  if (frame.beyond.length === 0) return [];
  const [, high] = frame.domain;
  const [, top] = withStrip(frame).domain;
  return [
    Plot.rect([{ y1: high, y2: top }], { y1: 'y1', y2: 'y2', fill: 'currentColor', fillOpacity: 0.06 }),
    Plot.ruleY([high], { strokeOpacity: 0.5, strokeDasharray: '3,2' }),
    Plot.text([rangeText(frame.beyond)], {
      frameAnchor: 'top-right',
      text: (text: string) => `far above: ${text}`,
      dy: 3,
      dx: -3,
      fillOpacity: 0.75,
    }),
  ];
}

/** At least two round values within a range, about `count`. */
export function linearTicks(low: number, high: number, count = 5): number[] {
  for (let wanted = count; ; wanted += 1) {
    const rough = (high - low) / wanted;
    const power = 10 ** Math.floor(Math.log10(rough));
    const step = ([1, 2, 5, 10].find((one) => one * power >= rough * 0.999) as number) * power;
    const first = Math.ceil(low / step - 1e-9);
    const last = Math.floor(high / step + 1e-9);
    if (last > first || !(high > low) || wanted > 50) {
      return Array.from({ length: Math.max(0, last - first + 1) }, (_, i) =>
        Number(((first + i) * step).toPrecision(12)),
      );
    }
  }
}

/** Values for a logarithmic axis, at least two: 1, 2 and 5 times powers of ten, or powers, else evenly spaced ones. */
export function logTicks(low: number, high: number, most = 7): number[] {
  const [first, last] = [Math.floor(Math.log10(low)), Math.ceil(Math.log10(high))];
  const powers = Array.from({ length: last - first + 1 }, (_, i) => 10 ** (first + i));
  const within = (steps: readonly number[]) =>
    powers
      .flatMap((power) => steps.map((step) => Number((step * power).toPrecision(3))))
      .filter((value) => value >= low && value <= high);
  const choices = [within([1, 2, 3, 5, 7]), within([1, 2, 5]), within([1, 3]), within([1])];
  const fitting = choices.find((values) => values.length >= 2 && values.length <= most);
  return fitting ?? (high > low * 1.001 ? linearTicks(low, high, 3) : [low]);
}

/** The class of everything that shows a series: the legend switches it. */
export const seriesClass = (label: string): string =>
  `s-${label.toLowerCase().replaceAll(/[^a-z\d]+/g, '-')}`;

/** Separates a run's id from the text of its mark's title; `draw` makes it an attribute. */
const RUN_MARK = '\u0001';
export const ofRun = (run_id: string, text: string): string => `${run_id}${RUN_MARK}${text}`;

const rangeText = (beyond: readonly number[]) => {
  const [least, most] = [beyond[0], beyond.at(-1)].map((loss) => (loss as number).toFixed(2));
  const runs = beyond.length === 1 ? '1 run' : `${beyond.length} runs`;
  return `${runs}, ${least === most ? least : `${least} to ${most}`}`;
};

/** Joins sentences; empty ones are left out. */
export const sentences = (...all: string[]): string => all.filter((one) => one !== '').join(' ');

export interface LegendEntry {
  label: string;
  color: string;
  /** The symbol of points; null: a line. */
  symbol?: MarkSymbol;
  /** The dash array of lines; absent: no line beside a symbol. */
  dash?: string;
  /** Whether the line is a thin one. */
  thin?: boolean;
  /** Drawn as an outline. */
  hollow?: boolean;
  /** The series that the entry switches on the page; absent: it only explains. */
  series?: string;
}

export type MarkSymbol = 'circle' | 'square' | 'triangle' | 'diamond2' | 'hexagon' | 'star' | 'cross';

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
  for (const mark of svg.querySelectorAll('title')) {
    const [run, text] = mark.textContent.split(RUN_MARK) as [string, string?];
    if (text === undefined) continue;
    mark.textContent = text;
    mark.parentNode.setAttribute('data-run', run);
  }
  // Plot writes coordinates with 15 digits; a hundredth of a pixel is enough.
  return svg.outerHTML.replaceAll(/(\d\.\d{2})\d+(?=[^<>]*>)/g, '$1');
}

/** The part of an SVG element that is used here, as the program is compiled without the browser's types. */
interface SvgElement {
  outerHTML: string;
  setAttribute(name: string, value: string): void;
  insertAdjacentHTML(where: string, html: string): void;
  querySelectorAll(selector: string): Iterable<SvgElement>;
  textContent: string;
  parentNode: SvgElement;
}

interface PlacedEntry extends LegendEntry {
  x: number;
}

function legendLines(legend: readonly LegendEntry[], width: number): PlacedEntry[][] {
  const lines: PlacedEntry[][] = [];
  let x = Number.POSITIVE_INFINITY;
  for (const entry of legend) {
    const length = 26 + entry.label.length * FONT_SIZE * CHARACTER + 12;
    if (x + length > width) {
      lines.push([]);
      x = 10;
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
      const key = entry.series === undefined ? '' : ` class="key" data-series="${seriesClass(entry.series)}"`;
      return `<g transform="translate(${x},${y})"${key}>${legendMark(entry)}<text x="14" dy="0.32em" text-anchor="start">${escapeXml(entry.label)}</text></g>`;
    }),
  );
  return `<g class="legend" aria-hidden="true">${entries.join('')}</g>`;
}

const SYMBOL_PATHS: Record<MarkSymbol, string> = {
  circle: 'M-4,0a4,4 0 1,0 8,0a4,4 0 1,0 -8,0',
  square: 'M-3.5,-3.5h7v7h-7z',
  triangle: 'M0,-4.5L4.2,3.2H-4.2Z',
  diamond2: 'M0,-4.5L4.5,0L0,4.5L-4.5,0Z',
  hexagon: 'M0,-4.5L3.9,-2.2V2.2L0,4.5L-3.9,2.2V-2.2Z',
  star: 'M0,-5L1.2,-1.6L4.8,-1.5L1.9,.6L2.9,4L0,2L-2.9,4L-1.9,.6L-4.8,-1.5L-1.2,-1.6Z',
  cross: 'M-4.5,-1.5h3v-3h3v3h3v3h-3v3h-3v-3h-3z',
};

function legendMark({ symbol, color, dash, hollow, thin }: LegendEntry): string {
  const dashes = dash === undefined || dash === '' ? '' : ` stroke-dasharray="${dash}"`;
  // With closing tags, since HTML has no self-closing ones.
  const line =
    symbol !== undefined && dash === undefined
      ? ''
      : `<line x1="-9" x2="9" stroke="${color}" stroke-width="${thin === true ? 0.75 : 2}"${dashes}></line>`;
  if (symbol === undefined) return line;
  const paint = hollow === true ? `fill="none" stroke="${color}" stroke-width="1.5"` : `fill="${color}"`;
  return `${line}<path d="${SYMBOL_PATHS[symbol]}" ${paint}></path>`;
}

/** Escapes text for XML and HTML, in content and in quoted attributes. */
export function escapeXml(text: string): string {
  const entities: Record<string, string> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' };
  return text.replace(/[&<>"]/g, (character) => entities[character] as string);
}
