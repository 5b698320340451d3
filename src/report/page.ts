/** The report as one self-contained HTML page. */
import { counted } from '../format.js';
import { cautionsOf } from './cautions.js';
import { shownBudget } from './chosen.js';
import type { Claim } from './claims/claim.js';
import type { Figures } from './figures/all.js';
import { type Cell, type DataTable, escapeXml, type Figure } from './figures/figure.js';
import { isoflopId } from './figures/isoflop.js';
import { PAGE_SCRIPT } from './page-script.js';
import { PAGE_STYLE } from './page-style.js';
import type { Prediction, Score } from './prediction.js';
import type { Study } from './study.js';
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
import { budgetName, percent, withInterval } from './words.js';

export interface PageContent {
  sweeps: string[];
  study: Study;
  claims: Claim[];
  figures: Figures;
  pending: Prediction[];
  scores: Score[];
  /** ISO 8601. */
  generatedAt: string;
  /** Version and commit of the program that wrote it. */
  program: string;
}

/** The HTML of the whole page, which loads no other file. */
export function pageOf(content: PageContent): string {
  const { sweeps, study, claims, figures } = content;
  const title = `${sweeps.join(', ')}: Mixture-of-Depths at equal FLOPs`;
  const sections: [id: string, title: string, html: string][] = [
    ['claims', 'The paper’s claims on this data', claimsTable(claims)],
    [
      'figures',
      'Figures',
      `<div class="figures">${figures.drawn.map(figureHtml).join('')}</div>${missing(figures)}`,
    ],
    ['fits', 'Fits', fits(content)],
    ['left-out', 'Runs left out', leftOut(study)],
    ['method', 'How it was computed', method(study)],
  ];
  const links = sections.map(([id, name]) => `<a href="#${id}">${escapeXml(name)}</a>`).join('');
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>${escapeXml(title)}</title>
<link rel="icon" href="data:,">
<style>${PAGE_STYLE}</style>
</head>
<body>
<header>
<h1>${escapeXml(title)}</h1>
<p class="quiet">${escapeXml(summary(content))}</p>
${leading(content)}${cautions(study)}
<nav aria-label="Sections">${links}</nav>
</header>
<main>
${sections.map(([id, name, html]) => `<section aria-labelledby="${id}"><h2 id="${id}">${escapeXml(name)}</h2>${html}</section>`).join('\n')}
</main>
<footer class="quiet"><p>Written by ${escapeXml(content.program)} on ${escapeXml(content.generatedAt)}.</p></footer>
<script>${PAGE_SCRIPT}</script>
</body>
</html>
`;
}

/** The summary: the curves of the largest budget, and the speed. */
function leading({ study, figures: { drawn } }: PageContent): string {
  const budget = shownBudget(study.budgets);
  const ids = [...(budget === null ? [] : [isoflopId(budget)]), 'speed'];
  const readings = ids.flatMap((id) => drawn.find((figure) => figure.id === id)?.reading ?? []);
  return readings.length === 0 ? '' : `<p>${escapeXml(readings.join(' '))}</p>`;
}

function cautions(study: Study): string {
  const sentences = cautionsOf(study).map((sentence) => `<li>${escapeXml(sentence)}</li>`);
  return sentences.length === 0 ? '' : `<p>Note:</p><ul>${sentences.join('')}</ul>`;
}

function summary({ study, claims }: PageContent): string {
  const verdicts = (['holds', 'fails', 'undecided', 'not tested'] as const).flatMap((verdict) => {
    const count = claims.filter((claim) => claim.verdict === verdict).length;
    return count === 0 ? [] : [`${verdict} ${count}`];
  });
  const budgets = study.budgets.map(({ budget }) => budgetName(budget)).join(', ') || 'no budget yet';
  const devices = [...new Set(study.done.map(({ row }) => row.device ?? 'an unknown device'))].join(', ');
  const on = devices === '' ? '' : `, trained on ${devices}`;
  return `${counted(study.done.length, 'finished run')} of ${study.runs.length}, at ${budgets} FLOPs${on}. The paper’s ${claims.length} claims: ${verdicts.join(', ')}.`;
}

function claimsTable(claims: readonly Claim[]): string {
  const tested = claims.filter(({ verdict }) => verdict !== 'not tested');
  const untested = claims.filter(({ verdict }) => verdict === 'not tested');
  const rows = tested.map(
    ({ claim, source, verdict, finding }) =>
      `<tr><td>${escapeXml(claim)} <span class="source">${escapeXml(source)}</span></td><td class="verdict ${verdict}">${verdict}</td><td class="lines">${escapeXml(finding)}</td></tr>`,
  );
  const table = `<table class="cards"><thead><tr><th scope="col">claim</th><th scope="col">verdict</th><th scope="col">evidence</th></tr></thead><tbody>${rows.join('')}</tbody></table>`;
  const items = untested.map(
    ({ claim, source, finding }) =>
      `<li>${escapeXml(claim)} <span class="source">${escapeXml(source)}</span> ${escapeXml(finding)}</li>`,
  );
  const rest = `<details open><summary>${counted(untested.length, 'claim')} not tested</summary><ul>${items.join('')}</ul></details>`;
  return `<p class="quiet">Claims of Raposo et al. 2024, by section. 95% intervals are in brackets. A claim holds or fails if a test at the level of 5% excludes the other side, after adjusting for the number of settings and budgets that could have decided it; else it is undecided, with the reason. With several budgets, the verdict is that of the budgets that decide; if they disagree, the claim is undecided.</p>${tested.length === 0 ? '' : table}${untested.length === 0 ? '' : rest.replace(tested.length === 0 ? '' : ' open', '')}`;
}

function figureHtml({ id, title, paper, reading, notes = '', svg, table, wide }: Figure): string {
  const source = paper === null ? '' : ` <span class="source">${escapeXml(paper)}</span>`;
  return `<figure id="${escapeXml(id)}"${wide ? ' class="wide"' : ''}><figcaption><h3>${escapeXml(title)}${source}</h3><p>${escapeXml(reading)}</p>${notes === '' ? '' : `<p class="quiet">${escapeXml(notes)}</p>`}</figcaption><div class="frame">${svg}</div><details><summary>The data</summary><div class="scroll" tabindex="0" role="region" aria-label="Data of ${escapeXml(title)}">${tableHtml(table)}</div></details></figure>`;
}

/** A table whose numbers are aligned right. */
function tableHtml({ head, rows }: DataTable): string {
  const numeric = head.map((_, i) => rows.some((row) => typeof row[i] === 'number'));
  const kind = (i: number) => (numeric[i] ? ' class="number"' : '');
  const headRow = head.map((name, i) => `<th scope="col"${kind(i)}>${escapeXml(name)}</th>`).join('');
  const body = rows.map(
    (row) => `<tr>${row.map((cell, i) => `<td${kind(i)}>${escapeXml(cellText(cell))}</td>`).join('')}</tr>`,
  );
  return `<table><thead><tr>${headRow}</tr></thead><tbody>${body.join('')}</tbody></table>`;
}

function cellText(cell: Cell): string {
  if (cell === null) return '';
  if (typeof cell === 'string') return cell;
  const short = Number(cell.toPrecision(5));
  return Math.abs(short) >= 1e9 ? short.toExponential().replace('e+', 'e') : String(short);
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

function leftOut(study: Study): string {
  if (study.leftOut.length === 0) return '<p>None: every run of the plan is finished and used.</p>';
  return `<div class="scroll">${tableHtml(leftOutTable(study))}</div>`;
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
