/** The documents name exactly the keys, columns and files of the program; their links and paths exist. */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { parse, stringify } from 'yaml';
import { z } from 'zod';
import { BACKEND_NAMES, REQUESTED_BACKENDS } from '../src/backends/names.js';
import { REQUESTED_PRECISIONS } from '../src/backends/precisions.js';
import { sweepSchema } from '../src/config/schema.js';
import { parseSweepFile } from '../src/config/sweep-file.js';
import { ROUTER_NAMES, ROUTING_MODES } from '../src/model/config.js';
import { EXPERT_VARIANTS, VARIANT_NAMES } from '../src/model/variants.js';
import { GATE_NAMES } from '../src/ops/gates.js';
import { expandSweep } from '../src/plan/expand.js';
import { EVAL_TABLE, RUN_TABLE, STEP_TABLE } from '../src/results/columns.js';
import { runFiles } from '../src/results/run-folder.js';

const sweepFile = readFileSync('docs/sweep-file.md', 'utf8');
const results = readFileSync('docs/results.md', 'utf8');

/** The cells of all table rows whose first cell is a name in backticks. */
function rows(text: string): string[][] {
  return [...text.matchAll(/^\| `([^`]+)` \|(.*)\|$/gm)].map(([, name, rest]) => [
    name as string,
    ...(rest as string).split('|').map((cell) => cell.trim()),
  ]);
}

const names = (text: string) => rows(text).map(([name]) => name as string);

/** The text under a second-level heading. */
function section(text: string, heading: string): string {
  const found = text.split(/^## /m).find((part) => part.startsWith(`${heading}\n`));
  if (found === undefined) throw new Error(`no section '${heading}'`);
  return found;
}

/** The parts of a type, one level down. Throws for an unknown type, since its keys would be missed. */
function parts(type: z.core.$ZodType): z.core.$ZodType[] {
  if (type instanceof z.ZodExactOptional) return [type.def.innerType];
  if (type instanceof z.ZodPipe) return [type.def.in, type.def.out];
  if (type instanceof z.ZodUnion) return [...type.def.options];
  if (type instanceof z.ZodArray) return [type.def.element];
  const leaves = [z.ZodCustom, z.ZodTransform, z.ZodString, z.ZodBoolean, z.ZodEnum, z.ZodLiteral, z.ZodNull];
  if (leaves.some((leaf) => type instanceof leaf)) return [];
  throw new Error(`cannot list the keys of a ${type._zod.def.type}`);
}

/** All keys of a type, those of nested mappings in dotted form; lists add no level. */
function keysOf(type: z.core.$ZodType): string[] {
  if (!(type instanceof z.ZodObject)) return [...new Set(parts(type).flatMap(keysOf))];
  return Object.entries(type.shape).flatMap(([key, value]) => [
    key,
    ...keysOf(value as z.core.$ZodType).map((inner) => `${key}.${inner}`),
  ]);
}

describe('docs/sweep-file.md', () => {
  const all = keysOf(sweepSchema);
  const ofGrids = all.flatMap((key) => (key.startsWith('grids.') ? [key.slice('grids.'.length)] : []));
  const ofTop = all.filter((key) => !key.startsWith('grids.'));
  /** A pure mapping needs no row; `model_sizes` also has other forms. */
  const isGroup = (key: string) =>
    key !== 'model_sizes' && ofTop.some((other) => other.startsWith(`${key}.`));
  const described = ofTop.filter((key) => key.startsWith('model_sizes.') || !isGroup(key));

  it('has a row for every key of the schema, and no other', () => {
    expect(names(sweepFile).sort()).toEqual(described.sort());
  });

  it('lists the keys that a grid cannot override', () => {
    const topAlone = ofTop.filter((key) => !ofGrids.includes(key));
    expect(names(section(sweepFile, 'Only at the top level')).sort()).toEqual(topAlone.sort());
    expect(ofGrids.filter((key) => !ofTop.includes(key))).toEqual([]);
  });

  it('names only existing dotted keys in its text', () => {
    const dotted = [...sweepFile.matchAll(/`([a-z_]+\.[a-z_.]+)`/g)].map(([, key]) => key as string);
    expect(dotted.filter((key) => !ofTop.includes(key))).toEqual([]);
  });

  it('states the defaults: a file with them is equivalent to one without', () => {
    const needed = 'name: a\nflop_budgets: [1e15]\ndata: {text: a, heldout_text: b}\n';
    const written: Record<string, unknown> = {};
    for (const [key, , cell] of rows(sweepFile)) {
      const value = /^`([^`]+)`$/.exec(cell as string)?.[1];
      if (value === undefined) continue;
      const path = (key as string).split('.');
      let at = written;
      for (const part of path.slice(0, -1)) {
        at[part] ??= {};
        at = at[part] as Record<string, unknown>;
      }
      at[path.at(-1) as string] = parse(value);
    }
    const { top } = parseSweepFile('s.yaml', needed);
    const explicit = parseSweepFile('s.yaml', `${needed}${stringify(written)}`);
    expect(explicit.top).toEqual(top);
  });

  it('has examples with the number of runs in their comments, all trainable', () => {
    const examples = [...sweepFile.matchAll(/```yaml\n(.*?)```/gs)].map(([, text]) => text as string);
    const plans = examples.map((text) => expandSweep(parseSweepFile('s.yaml', text)));
    const stated = (text: string) =>
      [...text.matchAll(/: (\d+) runs$/gm)].reduce((sum, [, runs]) => sum + Number(runs), 0);
    expect(plans.map((runs) => runs.length)).toEqual(examples.map(stated));
    expect(plans.flat().filter(({ status }) => status !== 'pending')).toEqual([]);
  });
});

describe('docs/results.md', () => {
  it.each([
    ['runs.csv', RUN_TABLE],
    ['eval.csv', EVAL_TABLE],
    ['steps.csv', STEP_TABLE],
  ])(
    'has a row for every column of %s, in order, with its unit and whether it may be empty',
    (file, table) => {
      const columns = Object.entries(table).map(([name, { type, ...column }]) => {
        const unit = type === 'time' ? 'time' : 'unit' in column ? column.unit : '';
        return [name, unit, 'nullable' in column];
      });
      const described = rows(section(results, file)).map(([name, unit, , empty]) => [
        name,
        unit,
        empty !== 'never',
      ]);
      expect(described).toEqual(columns);
    },
  );

  it('has a row for every file of a run folder', () => {
    const files = Object.values(runFiles('run')).map((path) => basename(path));
    expect(names(section(results, "The files of a run's folder"))).toEqual(expect.arrayContaining(files));
  });
});

describe('README.md', () => {
  const readme = readFileSync('README.md', 'utf8');

  it('has at most 11 KB', () => expect(Buffer.byteLength(readme)).toBeLessThanOrEqual(11 * 1024));

  it('begins with what the program does, a figure, and what Mixture-of-Depths is', () => {
    const [title, purpose, figure, caption, method] = readme.split('\n\n');
    expect(title).toBe('# mod');
    expect(purpose).toMatch(/^`mod` .*\.$/);
    expect(figure).toMatch(/^!\[.*\]\(results\/linux-bytes\/report\/figures\/isoflop-3e16\.svg\)$/);
    expect(caption).toMatch(/^\*.*\*$/);
    expect(method).toMatch(/^A Mixture-of-Depths \(MoD\) transformer/);
  });

  it('has its sections in this order', () => {
    expect([...readme.matchAll(/^## (.+)$/gm)].map(([, heading]) => heading)).toEqual([
      'Quick start',
      'How it works',
      'Findings',
      'Speed',
      'Your own text',
      'Commands',
      'Backends',
      'Unattended and on clusters',
      'Layout',
      'Developing',
      'Citing',
      'Licence',
    ]);
  });

  it('has the two commands of .ci/run as its first code block', () => {
    expect(/```sh\n(.*?)```/s.exec(readme)?.[1]).toBe(
      'npm ci && npx mod sweep configs/quick.yaml\nnpm test\n',
    );
    expect(readme.indexOf('```')).toBe(readme.indexOf('```sh'));
  });

  it('has a sweep file with the stated number of runs', () => {
    const yaml = /```yaml\n(.*?)```/s.exec(readme)?.[1] as string;
    const plan = expandSweep(parseSweepFile('mine.yaml', yaml));
    expect(plan.filter(({ status }) => status === 'pending')).toHaveLength(
      Number(/= (\d+) runs/.exec(readme)?.[1]),
    );
  });
});

describe('docs/architecture.md', () => {
  it('names functions and classes that their files export', () => {
    const page = readFileSync('docs/architecture.md', 'utf8');
    const named = [...page.matchAll(/\[`(src\/[^`]+)`\]\([^)]+\), `(\w+)`/g)];
    expect(named.length).toBeGreaterThan(5);
    const missing = named.filter(([, path, name]) => {
      const exported = new RegExp(`^export (async )?(function|class|const) ${name}\\b`, 'm');
      return !exported.test(readFileSync(path as string, 'utf8'));
    });
    expect(missing.map(([text]) => text)).toEqual([]);
  });

  it('has a row for every folder of src/', () => {
    const folders = readdirSync('src', { withFileTypes: true }).filter((entry) => entry.isDirectory());
    const described = names(section(readFileSync('docs/architecture.md', 'utf8'), 'Folders'));
    expect(described).toEqual(expect.arrayContaining(folders.map(({ name }) => `src/${name}/`)));
  });
});

describe('rows for closed choices', () => {
  const cellsOf = (text: string, name: string) =>
    rows(text)
      .find(([first]) => first === name)
      ?.join(' ') ?? '';

  it.each([
    ['docs/sweep-file.md', 'gates', GATE_NAMES],
    ['docs/sweep-file.md', 'routers', ROUTER_NAMES],
    ['docs/sweep-file.md', 'expert_variants', EXPERT_VARIANTS],
    ['docs/sweep-file.md', 'backend', REQUESTED_BACKENDS],
    ['docs/sweep-file.md', 'precision', REQUESTED_PRECISIONS],
    ['docs/results.md', 'variant', VARIANT_NAMES],
    ['docs/results.md', 'routing', ROUTING_MODES],
  ] as const)('%s names every choice of `%s`', (page, row, choices) => {
    const text = cellsOf(readFileSync(page, 'utf8'), row);
    expect(choices.filter((choice) => !text.includes(`\`${choice}\``))).toEqual([]);
  });

  it('for backends are in README.md and docs/backends.md', () => {
    for (const page of ['README.md', 'docs/backends.md']) {
      expect(names(readFileSync(page, 'utf8'))).toEqual(expect.arrayContaining([...BACKEND_NAMES]));
    }
  });
});

describe('the commands', () => {
  const declared = [
    ...readFileSync('src/cli.ts', 'utf8').matchAll(/\.command\('([\w-]+)'(, { hidden: true })?/g),
  ];
  const visible = declared.filter(([, , hidden]) => hidden === undefined).map(([, name]) => name as string);
  const ofData = ['prepare', 'info'];
  const top = visible.filter((name) => !ofData.includes(name));

  it('each have a section in docs/commands.md', () => {
    const sections = [...readFileSync('docs/commands.md', 'utf8').matchAll(/^## mod (.+)$/gm)];
    expect(sections.map(([, name]) => name).sort()).toEqual([...top].sort());
  });

  it('each have a row in the README', () => {
    const table = section(readFileSync('README.md', 'utf8'), 'Commands');
    const lines = [...new Set([...table.matchAll(/`mod ([\w-]+)/g)].map(([, name]) => name as string))];
    expect(lines.sort()).toEqual([...top].sort());
  });
});

describe('the documents', () => {
  const inFolder = (folder: string) => readdirSync(folder).filter((name) => name.endsWith('.md'));
  const pages = [...inFolder('.'), ...inFolder('docs').map((name) => join('docs', name))];
  const textOf = (page: string) => readFileSync(page, 'utf8');
  /** GitHub's anchor of a heading. */
  const anchorOf = (heading: string) =>
    heading
      .toLowerCase()
      .replace(/[^\w\- ]/g, '')
      .replaceAll(' ', '-');

  it.each(pages)('%s links to pages and headings that exist', (page) => {
    const links = [...textOf(page).matchAll(/\]\((?!https?:)([^)#]*)#?([^)]*)\)/g)];
    const broken = links.filter(([, path, anchor]) => {
      const target = path === '' ? page : join(dirname(page), path as string);
      if (!existsSync(target)) return true;
      if (anchor === '') return false;
      const headings = [...textOf(target).matchAll(/^#+ (.+)$/gm)].map(([, heading]) => heading as string);
      return !headings.map(anchorOf).includes(anchor as string);
    });
    expect(broken.map(([link]) => link)).toEqual([]);
  });

  it.each(pages)('%s names files of the repository that exist', (page) => {
    const named = [
      ...textOf(page).matchAll(/(?<![\w/.-])(?:src|test|scripts|configs|examples|bin)\/[\w./-]*\w\/?/g),
    ];
    const built = /^configs\/(?:one-|mine)/;
    const missing = named.map(([path]) => path).filter((path) => !existsSync(path) && !built.test(path));
    expect(missing).toEqual([]);
  });

  it.each(pages)('%s has no table cell of more than 200 characters', (page) => {
    const cells = textOf(page)
      .split('\n')
      .filter((line) => line.startsWith('|'))
      .flatMap((line) => line.split('|').map((cell) => cell.trim()));
    expect(cells.filter((cell) => cell.length > 200)).toEqual([]);
  });

  it.each(pages.filter((page) => page.startsWith('docs')))('%s begins with its purpose', (page) => {
    expect(textOf(page)).toMatch(/^# .+\n\nThis page .+\./);
  });

  it('are all linked from the README or from a page that it links', () => {
    const linked = ['README.md', 'CONTRIBUTING.md', 'docs/architecture.md']
      .filter(existsSync)
      .map(textOf)
      .join();
    const alone = pages.filter((page) => page !== 'README.md' && !linked.includes(basename(page)));
    expect(alone).toEqual([]);
  });

  it('are in the package, with the licence and the figures', () => {
    const { files } = JSON.parse(readFileSync('package.json', 'utf8'));
    expect(files).toEqual(expect.arrayContaining(['docs', 'examples', 'CHANGELOG.md', 'CONTRIBUTING.md']));
    for (const path of [...files, 'LICENSE'].filter((path) => path !== 'dist'))
      expect(existsSync(path)).toBe(true);
  });
});
