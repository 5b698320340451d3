/**
 * The part of vitest that the tests use, for a box that has Node and nothing else: scripts/pack-tests.mjs bundles test
 * files with this in vitest's place. Prints a line for each failure and one for the file; exits with 1 if any failed.
 */
import { inspect, isDeepStrictEqual } from 'node:util';

type Body = () => unknown;
type Row = readonly unknown[] | Record<string, unknown> | string | number | null;

interface Case {
  name: string;
  body: Body;
}
interface Suite {
  prefix: string;
  before: Body[];
}

const cases: (Case & { suites: Suite[] })[] = [];
let suites: Suite[] = [];
let skipped = 0;

/** %s, %j, %i and $key, as vitest fills them in. */
function title(template: string, row: Row): string {
  const values = Array.isArray(row) ? [...row] : [row];
  return template
    .replace(/%[sij]/g, (mark) => (mark === '%j' ? JSON.stringify(values.shift()) : String(values.shift())))
    .replace(/\$(\w+)/g, (_, key: string) => String((row as Record<string, unknown>)[key]));
}

const spread = (row: Row): unknown[] => (Array.isArray(row) ? row : [row]);

export function describe(name: string, body: Body): void {
  suites = [...suites, { prefix: name, before: [] }];
  body();
  suites = suites.slice(0, -1);
}
const describeEach =
  (rows: readonly Row[]) =>
  (name: string, body: (...row: never[]) => unknown): void => {
    for (const row of rows) describe(title(name, row), () => body(...(spread(row) as never[])));
  };
describe.each = describeEach;
describe.skipIf = (skip: boolean) =>
  skip
    ? Object.assign(() => undefined, { each: () => () => undefined })
    : Object.assign(describe, { each: describeEach });

export function it(name: string, body: Body): void {
  cases.push({ name, body, suites });
}
it.each =
  (rows: readonly Row[]) =>
  (name: string, body: (...row: never[]) => unknown): void => {
    for (const row of rows) it(title(name, row), () => body(...(spread(row) as never[])));
  };
it.skipIf = (skip: boolean) => (name: string, body: Body) => {
  if (skip) skipped += 1;
  else it(name, body);
};

export function beforeAll(body: Body): void {
  suites.at(-1)?.before.push(body);
}

/** The assertions, each negated by `not`. */
export function expect(actual: unknown, message = '') {
  const assertions = (wanted: boolean) => {
    const check = (holds: boolean, what: string, expected?: unknown) => {
      if (holds === wanted) return;
      const shown = (value: unknown) => inspect(value, { depth: 3, maxArrayLength: 8, breakLength: 200 });
      throw new Error(
        `${message === '' ? '' : `${message}: `}expected ${shown(actual)} ${wanted ? '' : 'not '}${what} ${
          expected === undefined ? '' : shown(expected)
        }`,
      );
    };
    const number = actual as number;
    return {
      toBe: (expected: unknown) => check(Object.is(actual, expected), 'to be', expected),
      toEqual: (expected: unknown) =>
        check(isDeepStrictEqual(plain(actual), plain(expected)), 'to equal', expected),
      toBeNull: () => check(actual === null, 'to be null'),
      toBeDefined: () => check(actual !== undefined, 'to be defined'),
      toBeLessThan: (expected: number) => check(number < expected, 'to be less than', expected),
      toBeLessThanOrEqual: (expected: number) => check(number <= expected, 'to be at most', expected),
      toBeGreaterThan: (expected: number) => check(number > expected, 'to be greater than', expected),
      toHaveLength: (length: number) =>
        check((actual as unknown[]).length === length, 'to have length', length),
      toMatch: (pattern: RegExp) => check(pattern.test(String(actual)), 'to match', pattern),
      toThrow: (pattern: RegExp | string = '') => {
        let thrown: unknown;
        try {
          (actual as Body)();
        } catch (error) {
          thrown = error;
        }
        const text = thrown instanceof Error ? thrown.message : '';
        check(
          thrown !== undefined && (pattern instanceof RegExp ? pattern.test(text) : text.includes(pattern)),
          'to throw',
          pattern,
        );
      },
    };
  };
  return { ...assertions(true), not: assertions(false) };
}

/** Without properties that are undefined, which toEqual ignores. */
function plain(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(plain);
  if (value === null || typeof value !== 'object' || ArrayBuffer.isView(value)) return value;
  return Object.fromEntries(
    Object.entries(value)
      .filter(([, each]) => each !== undefined)
      .map(([key, each]) => [key, plain(each)]),
  );
}

/** Runs what was registered; called by the bundle once its file is loaded. Names that do not match `only` are left out. */
export async function runRegistered(file: string, only: RegExp): Promise<void> {
  const done = new Set<Suite>();
  let [passed, failed] = [0, 0];
  const started = performance.now();
  for (const { name, body, suites: of } of cases) {
    const full = [...of.map(({ prefix }) => prefix), name].join(' > ');
    if (!only.test(full)) continue;
    try {
      for (const suite of of) {
        if (done.has(suite)) continue;
        done.add(suite);
        for (const before of suite.before) await before();
      }
      await body();
      passed += 1;
    } catch (error) {
      failed += 1;
      const text = error instanceof Error ? error.message : String(error);
      console.log(`FAILED ${file} > ${full}: ${text.replace(/\s+/g, ' ').slice(0, 600)}`);
      // Nothing works on a GPU after such an error: its context is gone.
      if (/ILLEGAL_ADDRESS|LAUNCH_FAILED|MISALIGNED/.test(text)) break;
    }
  }
  const seconds = ((performance.now() - started) / 1000).toFixed(1);
  console.log(`${file}: ${passed} passed, ${failed} failed, ${skipped} skipped in ${seconds} s`);
  process.exit(failed > 0 ? 1 : 0);
}
