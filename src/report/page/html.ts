/** Tables as HTML. End tags that HTML allows to leave out are left out: a study has thousands of cells. */
import { type Cell, type DataTable, escapeXml } from '../figures/figure.js';

/** A table whose numbers are aligned right. */
export function tableHtml({ head, rows }: DataTable): string {
  const numeric = head.map((_, i) => rows.some((row) => typeof row[i] === 'number'));
  const kind = (i: number) => (numeric[i] ? ' class=n' : '');
  const headRow = head.map((name, i) => `<th scope="col"${kind(i)}>${escapeXml(name)}</th>`).join('');
  const body = rows.map(
    (row) => `<tr>${row.map((cell, i) => `<td${kind(i)}>${escapeXml(cellText(cell))}`).join('')}`,
  );
  return `<table><thead><tr>${headRow}</tr></thead><tbody>${body.join('')}</tbody></table>`;
}

export function cellText(cell: Cell): string {
  if (cell === null) return '';
  if (typeof cell === 'string') return cell;
  const short = Number(cell.toPrecision(5));
  return Math.abs(short) >= 1e9 ? short.toExponential().replace('e+', 'e') : String(short);
}
