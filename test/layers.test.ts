/** The layers of src/: which folder may import which, checked for every import, types included. docs/architecture.md has the diagram. */
import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, normalize, relative, sep } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';

const SRC = fileURLToPath(new URL('../src', import.meta.url));

/** Available to every layer; they import one another only as listed here. */
const BASE = {
  errors: [],
  format: [],
  random: [],
  statistics: [],
  machine: ['errors'],
  ffi: ['errors'],
  files: ['errors', 'ffi', 'format'],
  /** Files of backends/ that need no backend; the table of names has the function that loads each one. */
  'backends/precisions': [],
  'backends/names': ['backends'],
} as const;

/**
 * The imports of each layer, from the lowest layer to the highest. A layer may import only layers listed before it, so there
 * are no cycles. A file directly in src/ is a layer.
 */
const LAYERS: Record<string, readonly string[]> = {
  ops: [],
  data: [],
  model: ['ops'],
  backends: ['ops'],
  config: ['data', 'model', 'ops'],
  plan: ['config', 'data', 'model', 'ops'],
  train: ['data', 'model', 'ops', 'plan'],
  results: ['data', 'model', 'ops', 'plan'],
  checkpoint: ['config', 'data', 'model', 'ops', 'plan', 'results', 'train'],
  eval: ['checkpoint', 'data', 'model', 'ops', 'plan', 'results'],
  export: ['results'],
  report: ['config', 'model', 'plan', 'results'],
  bench: ['data', 'eval', 'model', 'ops', 'train'],
  run: ['backends', 'checkpoint', 'data', 'eval', 'model', 'plan', 'results', 'train'],
  sweep: ['backends', 'checkpoint', 'config', 'data', 'model', 'plan', 'results', 'run'],
  slurm: ['config', 'plan', 'results', 'run', 'sweep'],
  commands: [
    'backends',
    'bench',
    'checkpoint',
    'config',
    'data',
    'eval',
    'export',
    'model',
    'plan',
    'report',
    'results',
    'run',
    'slurm',
    'sweep',
    'train',
  ],
  'exit-codes': ['results', 'run', 'sweep'],
  'cli-options': ['plan'],
  cli: ['bench', 'cli-options', 'commands', 'data', 'exit-codes', 'export', 'model', 'results', 'run'],
};

interface Import {
  from: string;
  to: string;
}

const files = readdirSync(SRC, { recursive: true, encoding: 'utf8' })
  .filter((file) => file.endsWith('.ts'))
  .map((file) => file.split(sep).join('/'));

/** Static, type-only and dynamic imports, re-exports, and modules named by URL, such as worker threads. */
const SPECIFIER = /(?:\bfrom\s*|\bimport\s*\(?\s*|\bnew URL\()'(\.[^']+)'/g;

const imports: Import[] = files.flatMap((from) =>
  [...readFileSync(join(SRC, from), 'utf8').matchAll(SPECIFIER)].flatMap(([, specifier = '']) => {
    const to = normalize(join(dirname(from), specifier))
      .split(sep)
      .join('/')
      .replace(/\.js$/, '.ts');
    return files.includes(to) ? [{ from, to }] : [];
  }),
);

/** The layer of a file: its folder in src/, or the file itself. */
function layerOf(file: string): string {
  if (/^backends\/(names|precisions)\.ts$/.test(file)) return file.replace(/\.ts$/, '');
  return file.includes('/') ? file.slice(0, file.indexOf('/')) : file.replace(/\.ts$/, '');
}

function allowed(layer: string): readonly string[] {
  const base: Record<string, readonly string[]> = BASE;
  return base[layer] ?? [...(LAYERS[layer] ?? []), ...Object.keys(BASE)];
}

describe('layers of src/', () => {
  it('has an entry for every folder and file, and no other', () => {
    const found = new Set(files.map(layerOf));
    expect([...found].sort()).toEqual([...Object.keys(BASE), ...Object.keys(LAYERS)].sort());
  });

  it('lists lower layers only', () => {
    const order = Object.keys(LAYERS);
    for (const [layer, lower] of Object.entries(LAYERS)) {
      for (const each of lower)
        expect(order.indexOf(each), `${layer} imports ${each}`).toBeLessThan(order.indexOf(layer));
    }
  });

  it('imports only what its entry lists', () => {
    const forbidden = imports.filter(({ from, to }) => {
      const [own, other] = [layerOf(from), layerOf(to)];
      return own !== other && !allowed(own).includes(other);
    });
    expect(forbidden.map(({ from, to }) => `${from} imports ${to}`)).toEqual([]);
  });

  it('lists only what is imported', () => {
    const used = new Set(imports.map(({ from, to }) => `${layerOf(from)} > ${layerOf(to)}`));
    const unused = Object.entries(LAYERS).flatMap(([layer, lower]) =>
      lower.map((each) => `${layer} > ${each}`).filter((arrow) => !used.has(arrow)),
    );
    expect(unused).toEqual([]);
  });

  it('has no import cycle between files', () => {
    const next = new Map<string, string[]>();
    for (const { from, to } of imports) next.set(from, [...(next.get(from) ?? []), to]);
    const done = new Set<string>();
    const cycles: string[] = [];
    const visit = (file: string, path: string[]): void => {
      if (path.includes(file)) {
        cycles.push([...path.slice(path.indexOf(file)), file].join(' > '));
        return;
      }
      if (done.has(file)) return;
      for (const to of next.get(file) ?? []) visit(to, [...path, file]);
      done.add(file);
    };
    for (const file of files) visit(file, []);
    expect(cycles).toEqual([]);
  });

  it('finds the imports of the code', () => {
    // Fails if the pattern above no longer matches the code's imports.
    expect(imports.length).toBeGreaterThan(files.length);
    expect(imports).toContainEqual({ from: 'checkpoint/writer.ts', to: 'checkpoint/writer-thread.ts' });
    expect(relative(SRC, join(SRC, 'cli.ts'))).toBe('cli.ts');
  });
});
