/** The style of the report's page: one column of text, figures in pairs on wide screens; light, dark and print. */

import { colorProperties } from './figures/style.js';

export const pageStyle = (): string => `
:root {
  color-scheme: light dark; ${colorProperties('light')}
  --ground: #fff; --text: #1c1e21; --quiet: #5d636b; --line: #e2e4e8; --raised: #f6f7f8;
  --holds: #10704b; --fails: #b3361e; --open: #8a6100;
}
@media (prefers-color-scheme: dark) {
  :root {
    ${colorProperties('dark')}
    --ground: #15171a; --text: #e4e6e9; --quiet: #9aa1aa; --line: #2e3238; --raised: #1d2024;
    --holds: #4cc38a; --fails: #ff8a70; --open: #e2b354;
  }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body {
  margin: 0 auto; padding: 2rem 1.25rem 4rem; max-width: 64rem; background: var(--ground); color: var(--text);
  font: 1rem/1.55 system-ui, -apple-system, 'Segoe UI', sans-serif; font-variant-numeric: tabular-nums;
}
h1 { font-size: 1.6rem; line-height: 1.25; margin: 0 0 .25rem; }
h2 { font-size: 1.15rem; margin: 3rem 0 .75rem; padding-top: .75rem; border-top: 1px solid var(--line); }
h3 { font-size: 1rem; margin: 0; }
h3 .source { font-weight: 400; white-space: nowrap; }
p, ul { margin: .5rem 0; max-width: 46rem; }
ul { padding-left: 1.2rem; }
.quiet, .source { color: var(--quiet); font-size: .875rem; }
a { color: inherit; }
nav { display: flex; flex-wrap: wrap; gap: .25rem 1rem; font-size: .875rem; margin-top: .75rem; }
.figures { display: grid; grid-template-columns: repeat(2, minmax(0, 1fr)); gap: 2.25rem 2rem; }
figure { margin: 0; min-width: 0; break-inside: avoid; }
figure.wide { grid-column: 1 / -1; }
figcaption p { margin: .15rem 0 .5rem; font-size: .9375rem; }
figcaption .quiet { font-size: .8125rem; }
#fits ~ h3 { margin-top: 1.5rem; }
.frame { position: relative; border-radius: 4px; }
.frame:focus-visible, summary:focus-visible, a:focus-visible { outline: 2px solid #1f7bb6; outline-offset: 3px; }
.frame svg { display: block; width: 100%; height: auto; }
.frame .marked { stroke: var(--text); stroke-width: 2; stroke-opacity: 1; fill-opacity: 1; }
.tip {
  position: absolute; z-index: 1; left: 0; top: 0; max-width: 20rem; padding: .35rem .55rem; pointer-events: none;
  background: var(--text); color: var(--ground); border-radius: 4px; font-size: .8rem; line-height: 1.4;
  white-space: pre-line; overflow-wrap: anywhere;
}
.tip:empty { padding: 0; }
details { margin-top: .35rem; font-size: .875rem; }
summary { color: var(--quiet); cursor: pointer; width: fit-content; }
.scroll { overflow: auto; max-height: 24rem; }
table { border-collapse: collapse; width: 100%; font-size: .875rem; }
th, td { text-align: left; vertical-align: top; padding: .4rem .75rem .4rem 0; border-bottom: 1px solid var(--line); }
thead th { color: var(--quiet); font-weight: 500; white-space: nowrap; }
details .scroll td { white-space: nowrap; }
.scroll thead th { position: sticky; top: 0; background: var(--ground); }
td.n, th.n { text-align: right; }
td.x, th.x { display: none; }
.headline { font-size: 1.125rem; max-width: 54rem; }
details.claim { border-bottom: 1px solid var(--line); margin: 0; }
details.claim > summary {
  display: grid; grid-template-columns: 6rem minmax(0, 1fr) minmax(0, 20rem); gap: .25rem 1rem; width: auto;
  padding: .45rem 0; color: var(--text); list-style: none;
}
details.claim > summary::-webkit-details-marker { display: none; }
details.claim > summary > .verdict::before { content: '▸ '; } details.claim[open] > summary > .verdict::before { content: '▾ '; }
.tools, .controls { display: flex; flex-wrap: wrap; align-items: center; gap: .3rem .6rem; margin: .3rem 0; font-size: .8125rem; }
.controls label { margin-right: .4rem; } .controls details { margin: 0; } .controls details label { display: inline-block; margin: .2rem .8rem .2rem 0; }
button, input, select {
  font: inherit; color: inherit; background: var(--raised); border: 1px solid var(--line); border-radius: 4px; padding: .1rem .45rem;
}
th button { border: 0; background: none; padding: 0; font-weight: inherit; cursor: pointer; } th select { display: block; max-width: 8rem; padding: 0; }
th[aria-sort=ascending] button::after { content: ' ↑'; } th[aria-sort=descending] button::after { content: ' ↓'; }
main > figure:first-child { margin-top: 1.75rem; } main > figure h3 { margin-bottom: .4rem; }
#all-runs { width: auto; min-width: 60%; } #curves ul { list-style: none; padding: 0; display: flex; flex-wrap: wrap; gap: .1rem 1.2rem; font-size: .8125rem; max-width: none; } #curves li svg { width: 2.2rem; height: .7rem; min-width: 0; }
#all-runs td { white-space: nowrap; padding-block: .15rem; } tr.chosen, tr.same-run { background: var(--raised); } tr.same-run { outline: 2px solid var(--text); outline-offset: -2px; }
.scroll.tall { max-height: 32rem; }
#curves svg { width: 100%; height: auto; }
.key[role=switch] { cursor: pointer; } .off-key { opacity: .35; } .off { display: none; }
.frame svg .same-run { stroke: var(--text); stroke-width: 2.5; fill-opacity: 1; } #curves .same-run { stroke-width: 4; }
dl.methods { display: grid; grid-template-columns: 12rem minmax(0, 1fr); gap: .2rem 1rem; padding: .9rem 1rem; background: var(--raised); border-radius: 6px; font-size: .875rem; }
dl.methods dt { color: var(--quiet); } dl.methods dd { margin: 0; overflow-wrap: anywhere; }
.lines { white-space: pre-line; overflow-wrap: anywhere; }
.verdict { font-weight: 600; white-space: nowrap; }
.holds { color: var(--holds); } .fails { color: var(--fails); } .undecided { color: var(--open); }
@media (max-width: 44rem) {
  body { padding: 1.25rem 1rem 3rem; }
  .figures { grid-template-columns: minmax(0, 1fr); }
  figure.wide .frame { overflow-x: auto; } figure.wide .frame svg { width: 54rem; max-width: none; }
  .figures .frame svg, #curves svg { min-width: 27rem; } .figures .frame, #curves { overflow-x: auto; }
  details.claim > summary { grid-template-columns: 6rem minmax(0, 1fr); } details.claim > summary > :last-child { grid-column: 2; }
  dl.methods { grid-template-columns: minmax(0, 1fr); gap: 0; } dl.methods dd { margin-bottom: .5rem; }
  }
@media print {
  :root {
    color-scheme: light; ${colorProperties('light')}
    --ground: #fff; --text: #000; --quiet: #444; --line: #ccc; --holds: #10704b; --fails: #b3361e; --open: #8a6100;
  }
  body { max-width: none; padding: 0; font-size: 10pt; }
  nav, .tip, .tools, .controls, figure details { display: none; }
  .scroll { max-height: none; overflow: visible; }
  details::details-content { content-visibility: visible; block-size: auto; }
  tr { break-inside: avoid; }
  h2 { break-after: avoid; }
}
`;
