/** The page's script: plain files that need no bundler, checked by tsconfig.json of this folder, in one scope. */
import { readFileSync } from 'node:fs';

const FILES = ['figures.js', 'runs-table.js'];

/** The text of all files. Without it the page shows the same figures, verdicts and tables. */
export function pageScript(): string {
  const text = FILES.map((name) => readFileSync(new URL(name, import.meta.url), 'utf8')).join('\n');
  return `(() => {\n'use strict';\n${text}})();`;
}
