/** The style of the report's page: one column of text, figures in pairs on wide screens; light, dark and print. */

export const PAGE_STYLE = `
:root {
  color-scheme: light dark;
  --ground: #fff; --text: #1c1e21; --quiet: #5d636b; --line: #e2e4e8; --raised: #f6f7f8;
  --holds: #10704b; --fails: #b3361e; --open: #8a6100;
}
@media (prefers-color-scheme: dark) {
  :root {
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
td.number, th.number { text-align: right; }
table.cards td:first-child { width: 36%; } table.cards td:last-child { padding-right: 0; }
.lines { white-space: pre-line; overflow-wrap: anywhere; }
.verdict { font-weight: 600; white-space: nowrap; }
.holds { color: var(--holds); } .fails { color: var(--fails); } .undecided { color: var(--open); }
@media (max-width: 44rem) {
  body { padding: 1.25rem 1rem 3rem; }
  .figures { grid-template-columns: minmax(0, 1fr); }
  figure.wide .frame { overflow-x: auto; } figure.wide .frame svg { width: 46rem; max-width: none; }
  table.cards, table.cards tbody, table.cards tr, table.cards td, table.cards th { display: block; border: 0; padding: 0; }
  table.cards td:first-child { width: auto; }
  table.cards thead { display: none; }
  table.cards tr { padding: .75rem 0; border-bottom: 1px solid var(--line); }
}
@media print {
  :root {
    color-scheme: light;
    --ground: #fff; --text: #000; --quiet: #444; --line: #ccc; --holds: #10704b; --fails: #b3361e; --open: #8a6100;
  }
  body { max-width: none; padding: 0; font-size: 10pt; }
  nav, .tip, figure details { display: none; }
  .scroll { max-height: none; overflow: visible; }
  details::details-content { content-visibility: visible; block-size: auto; }
  tr { break-inside: avoid; }
  h2 { break-after: avoid; }
}
`;
