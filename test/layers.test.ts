/** The layers of src/: which folder may import which, held for every import, types included. docs/architecture.md draws them. */
import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, normalize, relative, sep } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';

const SRC = fileURLToPath(new URL('../src', import.meta.url));

/** Available to every layer above them: they import one another only as listed here. */
const BASE = {
  errors: [],
  format: [],
  random: [],
  statistics: [],
  machine: ['errors'],
  files: ['errors', 'format'],
  /** Rooms within backends/ that need no backend; the table of names holds how each is loaded, once it is chosen. */
  'backends/precisions': [],
  'backends/names': ['backends'],
} as const;

/**
 * From the lowest layer to the highest, the layers that each imports. A folder may import those above its own line in this
 * list only, so the list itself has no cycle. Files directly in src/ are layers of their own.
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
  sweep: ['backends', 'checkpoint', 'config', 'data', 'plan', 'results', 'run'],
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
  ],
  'exit-codes': ['run', 'sweep'],
  'cli-options': ['plan'],
  cli: ['cli-options', 'commands', 'data', 'exit-codes', 'model', 'results', 'run'],
};

interface Import {
  from: string;
  to: string;
}

const files = readdirSync(SRC, { recursive: true, encoding: 'utf8' })
  .filter((file) => file.endsWith('.ts'))
  .map((file) => file.split(sep).join('/'));

/** Static, type-only and dynamic imports, re-exports, and modules named by URL, such as a thread's. */
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

/** The layer of a file: its folder directly under src/, or itself. */
function layerOf(file: string): string {
  if (/^backends\/(names|precisions)\.ts$/.test(file)) return file.replace(/\.ts$/, '');
  return file.includes('/') ? file.slice(0, file.indexOf('/')) : file.replace(/\.ts$/, '');
}

function allowed(layer: string): readonly string[] {
  const base: Record<string, readonly string[]> = BASE;
  return base[layer] ?? [...(LAYERS[layer] ?? []), ...Object.keys(BASE)];
}

describe('layers of src/', () => {
  it('has a line for every folder and file, and no others', () => {
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

  it('imports nothing that its line does not list', () => {
    const forbidden = imports.filter(({ from, to }) => {
      const [own, other] = [layerOf(from), layerOf(to)];
      return own !== other && !allowed(own).includes(other);
    });
    expect(forbidden.map(({ from, to }) => `${from} imports ${to}`)).toEqual([]);
  });

  it('lists nothing that is not imported', () => {
    const used = new Set(imports.map(({ from, to }) => `${layerOf(from)} > ${layerOf(to)}`));
    const unused = Object.entries(LAYERS).flatMap(([layer, lower]) =>
      lower.map((each) => `${layer} > ${each}`).filter((arrow) => !used.has(arrow)),
    );
    expect(unused).toEqual([]);
  });

  it('has no cycle of files', () => {
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

  it('finds the imports that the code has', () => {
    // The pattern above is text: this fails where it stops matching how the code imports.
    expect(imports.length).toBeGreaterThan(files.length);
    expect(imports).toContainEqual({ from: 'checkpoint/writer.ts', to: 'checkpoint/writer-thread.ts' });
    expect(relative(SRC, join(SRC, 'cli.ts'))).toBe('cli.ts');
  });
});
