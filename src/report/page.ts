/** The report as one self-contained HTML page. */
import { counted } from '../format.js';
import type { RunStatus } from '../results/run-status.js';
import { cautionsOf } from './cautions.js';
import { shownBudget } from './chosen.js';
import type { Claim } from './claims/claim.js';
import type { Figures } from './figures/all.js';
import { type DataTable, escapeXml, type Figure } from './figures/figure.js';
import { isoflopId } from './figures/isoflop.js';
import { themed } from './figures/style.js';
import { headline } from './page/headline.js';
import { tableHtml } from './page/html.js';
import { methodsBox } from './page/methods.js';
import { curvesData, runsSection } from './page/runs.js';
import { pageScript } from './page/script.js';
import { pageStyle } from './page-style.js';
import type { Prediction, Score } from './prediction.js';
import { commonText } from './settings.js';
import type { LeftOut, Study } from './study.js';
import {
  computeTable,
  fitTable,
  jointTable,
  leftOutTable,
  optimumTable,
  predictionTable,
  rateTable,
  residualTable,
  scalingTable,
} from './tables.js';
import { budgetName, percent, significant, withInterval } from './words.js';

export interface PageContent {
  sweeps: string[];
  study: Study;
  claims: Claim[];
  figures: Figures;
  pending: Prediction[];
  scores: Score[];
  /** Started runs that the sweep file no longer contains. */
  orphans: readonly LeftOut[];
  /** ISO 8601. */
  generatedAt: string;
  /** Version and commit of the program that wrote it. */
  program: string;
  /** The folder of the page, from which it links to run folders. */
  folder: string;
  /** Seconds until the page loads itself again, while it is being kept current; null: never. */
  reloadSeconds: number | null;
}

/** The HTML of the whole page, which loads no other file. */
export function pageOf(content: PageContent): string {
  const { sweeps, study, claims, figures, folder, reloadSeconds } = content;
  const title = `${sweeps.join(', ')}: Mixture-of-Depths at equal FLOPs`;
  const [first] = leadingFigures(content);
  const others = figures.drawn.filter((figure) => figure !== first);
  const sections: [id: string, title: string, html: string][] = [
    ['claims', 'The paper’s claims on this data', verdicts(claims)],
    [
      'figures',
      'Figures',
      `<div class="figures">${others.map((figure) => figureHtml(figure)).join('')}</div>${missing(figures)}`,
    ],
    ['runs', 'Runs', runsSection(study.runs, folder)],
    ['fits', 'Fits', fits(content)],
    ['left-out', 'Runs left out', leftOut([...study.leftOut, ...content.orphans])],
    ['method', 'Methods', `${methodsBox(study)}${method(study)}`],
  ];
  const links = sections.map(([id, name]) => `<a href="#${id}">${escapeXml(name)}</a>`).join('');
  const curves = JSON.stringify(curvesData(study.runs)).replaceAll('<', '\\u003c');
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>${escapeXml(title)}</title>
<link rel="icon" href="data:,">
<style>${pageStyle()}</style>
</head>
<body${reloadSeconds === null ? '' : ` data-reload="${reloadSeconds}"`}>
<header>
<h1>${escapeXml(title)}</h1>
<p class="headline">${escapeXml(headline(study))}</p>
<p class="quiet">${escapeXml(summary(content))}</p>
${progress(study)}<nav aria-label="Sections">${links}</nav>
</header>
<main>
${first === undefined ? '' : figureHtml(first, true)}${cautions(study)}
${sections.map(([id, name, html]) => `<section aria-labelledby="${id}"><h2 id="${id}">${escapeXml(name)}</h2>${html}</section>`).join('\n')}
</main>
<footer class="quiet"><p>Written by ${escapeXml(content.program)} on ${escapeXml(content.generatedAt)}.</p></footer>
<script type="application/json" id="curves-data">${curves}</script>
<script>${pageScript()}</script>
</body>
</html>
`;
}

/** The isoFLOP figure of the budget that is shown. */
function leadingFigures({ study, figures: { drawn } }: PageContent): Figure[] {
  const budget = shownBudget(study.budgets);
  return budget === null ? [] : drawn.filter(({ id }) => id === isoflopId(budget));
}

function cautions(study: Study): string {
  const sentences = cautionsOf(study).map((sentence) => `<li>${escapeXml(sentence)}</li>`);
  return sentences.length === 0 ? '' : `<p>Note:</p><ul>${sentences.join('')}</ul>`;
}

function summary({ study }: PageContent): string {
  const budgets = study.budgets.map(({ budget }) => budgetName(budget)).join(', ') || 'no budget yet';
  const devices = [...new Set(study.done.map(({ row }) => row.device ?? 'an unknown device'))].join(', ');
  const on = devices === '' ? '' : `, trained on ${devices}`;
  const runs = `${counted(study.done.length, 'finished run')} of ${study.runs.length}, at ${budgets} FLOPs${on}.`;
  return `${runs} ${commonText(study.runs.map(({ spec }) => spec))}`;
}

/** How far the sweep is, while runs are neither finished nor left out for good. */
function progress({ runs }: Study): string {
  const of = (status: RunStatus) => runs.filter(({ row }) => row.status === status);
  const training = of('running');
  const open = training.length + of('pending').length + of('interrupted').length;
  if (open === 0) return '';
  const lines = training.map((run) => {
    const step = run.steps().at(-1)?.step ?? 0;
    const share = step / run.row.steps;
    return `<li><progress value="${share.toFixed(3)}"></progress> ${escapeXml(run.row.run_id)}: step ${step} of ${run.row.steps}</li>`;
  });
  const ended = runs.length - open;
  return `<p><progress value="${(ended / runs.length).toFixed(3)}"></progress> ${ended} of ${counted(runs.length, 'run')} ended, ${training.length} in training.</p>${lines.length === 0 ? '' : `<ul>${lines.join('')}</ul>`}`;
}

/** A line for each claim, which unfolds. */
function verdicts(claims: readonly Claim[]): string {
  const tested = claims.filter(({ verdict }) => verdict !== 'not tested');
  const untested = claims.filter(({ verdict }) => verdict === 'not tested');
  const lines = tested.map(
    (claim) =>
      `<details class="claim" id="claim-${escapeXml(claim.id)}"><summary><span class="verdict ${claim.verdict}">${claim.verdict}</span><span>${escapeXml(claim.claim)} <span class="source">${escapeXml(claim.source)}</span></span><span class="quiet">${escapeXml(numberOf(claim))}</span></summary><p class="lines">${escapeXml(claim.finding)}</p></details>`,
  );
  const items = untested.map(
    ({ claim, source, finding }) =>
      `<li>${escapeXml(claim)} <span class="source">${escapeXml(source)}</span> ${escapeXml(finding)}</li>`,
  );
  const rest = `<details><summary>${counted(untested.length, 'claim')} not tested</summary><ul>${items.join('')}</ul></details>`;
  const how =
    '<details><summary>How verdicts are reached</summary><p class="quiet">Claims of Raposo et al. 2024, by section. 95% intervals are in brackets. A claim holds or fails if a test at the level of 5% excludes the other side, after adjusting for the number of settings and budgets that could have decided it; else it is undecided, with the reason. With several budgets, the verdict is that of the budgets that decide; if they disagree, the claim is undecided.</p></details>';
  return `${lines.join('')}${untested.length === 0 ? '' : rest}${how}`;
}

/** The first number of a claim at the largest budget that decides, else at the largest, and the budgets that decide. */
function numberOf({ numbers, decided_by }: Claim): string {
  const budgets = decided_by.length > 0 ? decided_by : numbers.map(({ flop_budget }) => flop_budget ?? 0);
  const largest = Math.max(...budgets);
  const found = numbers.find(({ flop_budget }) => (flop_budget ?? 0) === largest) ?? numbers[0];
  const decided = decided_by.length === 0 ? '' : `; decided by ${decided_by.map(budgetName).join(', ')}`;
  if (found === undefined) return decided.slice(2);
  const at = found.flop_budget === null ? '' : ` at ${budgetName(found.flop_budget)}`;
  return `${found.name}${at}: ${withInterval(found.value, found.interval, significant)}${decided}`;
}

/** With `drawingFirst` the sentences follow the drawing. */
function figureHtml(
  { id, title, paper, reading, notes = '', svg, table, wide }: Figure,
  drawingFirst = false,
): string {
  const source = paper === null ? '' : ` <span class="source">${escapeXml(paper)}</span>`;
  const rest =
    notes === '' ? '' : `<details><summary>Notes</summary><p class="quiet">${escapeXml(notes)}</p></details>`;
  const heading = `<h3>${escapeXml(title)}${source}</h3>`;
  const text = `<p>${escapeXml(reading)}</p>${rest}`;
  const frame = `<div class="frame">${themed(svg)}</div>`;
  const top = drawingFirst
    ? `${heading}${frame}<figcaption>${text}</figcaption>`
    : `<figcaption>${heading}${text}</figcaption>${frame}`;
  return `<figure id="${escapeXml(id)}"${wide ? ' class="wide"' : ''}>${top}<details class="data"><summary>The data</summary><div class="scroll" tabindex="0" role="region" aria-label="Data of ${escapeXml(title)}">${tableHtml(table)}</div></details></figure>`;
}

function missing({ missing: figures }: Figures): string {
  if (figures.length === 0) return '';
  const items = figures.map(
    ({ title, paper, needs }) =>
      `<li>${escapeXml(title)}${paper === null ? '' : ` (${escapeXml(paper)})`}: ${escapeXml(needs)}</li>`,
  );
  return `<p class="quiet">Not drawn:</p><ul class="quiet">${items.join('')}</ul>`;
}

function fits({ study, pending, scores }: PageContent): string {
  const { joint } = study;
  const law =
    joint === null
      ? ''
      : `One surface of the dense and MoD runs of all budgets, E + A/N^${joint.alpha.toFixed(2)} + B/D^${joint.beta.toFixed(2)}, in which the parameters of routed blocks count by a share of their own and N is multiplied by (depth/width)^${withInterval(joint.delta, joint.deltaInterval, (one) => one.toFixed(2))}; root mean square error ${percent(joint.rmsError)}. Intervals are by resampling shapes.`;
  const parts: [title: string, note: string, table: DataTable][] = [
    ['What each optimum takes', '', optimumTable(study)],
    ['Across budgets', '', scalingTable(study)],
    [
      'Compute and time that routing is worth',
      'By the slope of the losses between neighbouring budgets.',
      computeTable(study),
    ],
    ['Parameters of routed blocks', law, jointTable(study)],
    ['Errors of that surface', '', residualTable(study)],
    ['Learning rates', '', rateTable(study)],
    ['Predictions', '', predictionTable(pending, scores)],
  ];
  const shown = parts.filter(([, , { rows }]) => rows.length > 0);
  const sections = shown.map(
    ([title, note, table]) =>
      `<h3>${escapeXml(title)}</h3>${note === '' ? '' : `<p>${escapeXml(note)}</p>`}<div class="scroll">${tableHtml(table)}</div>`,
  );
  return `<div class="scroll">${tableHtml(fitTable(study))}</div>${sections.join('')}`;
}

function leftOut(runs: readonly LeftOut[]): string {
  if (runs.length === 0) return '<p>None: every run of the plan is finished and used.</p>';
  return `<div class="scroll">${tableHtml(leftOutTable(runs))}</div>`;
}

function method({ budgets }: Study): string {
  const noise = budgets.map(({ budget, noise: { pooled, kind } }) => {
    const differs = kind === 'one' || kind === 'unknown' ? '' : `, different ${kind}`;
    const value =
      pooled === null
        ? 'unknown'
        : `${Math.sqrt(pooled.variance).toFixed(4)} with ${pooled.freedom} degrees of freedom`;
    return `${value}${differs} at ${budgetName(budget)}`;
  });
  return `<p>A curve consists of all finished runs of one setting at one budget. Loss is the held-out loss in nats per token under the training pass. Each curve is fitted by least squares: by a parabola over the logarithm of the parameters, or where shapes of one size differ in depth over width by a surface over both; the optimum is the minimum of its lower envelope. No shape is left out. An optimum is not known, and no verdict rests on it, if it is outside the sizes, if the curve does not bend upwards, if the shapes deviate from the fit by more than seeds differ (p below 0.05 for the two curves that are compared), or with fewer than two degrees of freedom, 64 held-out sequences or 200 steps.</p>
<p>The noise is the standard deviation of a run’s loss, without the effect of the seed where several shapes share seeds: ${escapeXml(noise.join(', '))}. It is pooled over the curves of a budget, from seeds within shapes and from shapes around fits; where a test finds it different between curves or sizes, each has its own. Intervals are 95%, from Student’s t with the degrees of freedom of the noise that matters. The p of a verdict is multiplied by the number of settings that were chosen among, and adjusted over the budgets (Holm 1979).</p>
<p>Across budgets, a line is fitted to the logarithms of the optima (Hoffmann et al. 2022, approach 2), which is biased if the sizes are not centred on the optimum; the surface E + A/N^alpha + B/D^beta is fitted to all runs as well, by the Huber loss of its logarithm with delta 1e-3 from 162 starts (approach 3), its interval by resampling shapes. FLOPs are counted as in Hoffmann et al. 2022, appendix F, with backward twice forward. Step times are compared only between runs of the same device, backend, precision, batch, sequence length and version of the program.</p>`;
}
