/**
 * The part of vitest that the tests use, for a machine with only Node: scripts/pack-tests.mjs bundles test files with this
 * instead of vitest. Prints one line per failure and a summary; stderr names each test as it starts. Exits with 1 if any
 * test failed.
 */
import { inspect, isDeepStrictEqual } from 'node:util';
import { messageOf } from '../../src/errors.js';

type Body = () => unknown;
type Thrown = RegExp | string | (new (...given: never[]) => unknown);
type Row = readonly unknown[] | Record<string, unknown> | string | number | null;

interface Case {
  name: string;
  body: Body;
}
interface Suite {
  prefix: string;
  before: Body[];
  after: Body[];
  beforeEach: Body[];
  afterEach: Body[];
}

const suite = (prefix: string): Suite => ({ prefix, before: [], after: [], beforeEach: [], afterEach: [] });

const cases: (Case & { suites: Suite[] })[] = [];
/** The outermost suite is the file. */
let suites: Suite[] = [suite('')];
let skipped = 0;

/** Fills in %s, %j, %i and $key as vitest does. */
function title(template: string, row: Row): string {
  const values = Array.isArray(row) ? [...row] : [row];
  return template
    .replace(/%[sij]/g, (mark) => (mark === '%j' ? JSON.stringify(values.shift()) : String(values.shift())))
    .replace(/\$(\w+)/g, (_, key: string) => String((row as Record<string, unknown>)[key]));
}

const spread = (row: Row): unknown[] => (Array.isArray(row) ? row : [row]);

export function describe(name: string, body: Body): void {
  suites = [...suites, suite(name)];
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

export const beforeAll = (body: Body): unknown => suites.at(-1)?.before.push(body);
export const afterAll = (body: Body): unknown => suites.at(-1)?.after.push(body);
export const beforeEach = (body: Body): unknown => suites.at(-1)?.beforeEach.push(body);
export const afterEach = (body: Body): unknown => suites.at(-1)?.afterEach.push(body);

/** The assertions, each negated by `not`. */
export function expect(actual: unknown, message = '') {
  const assertions = (positive: boolean) => {
    const check = (matches: boolean, relation: string, expected?: unknown) => {
      if (matches === positive) return;
      const shown = (value: unknown) => inspect(value, { depth: 3, maxArrayLength: 8, breakLength: 200 });
      throw new Error(
        `${message === '' ? '' : `${message}: `}expected ${shown(actual)} ${positive ? '' : 'not '}${relation} ${
          expected === undefined ? '' : shown(expected)
        }`,
      );
    };
    const number = actual as number;
    return {
      toBe: (expected: unknown) => check(Object.is(actual, expected), 'to be', expected),
      toEqual: (expected: unknown) =>
        check(isDeepStrictEqual(plain(actual), plain(expected)), 'to equal', expected),
      toBeCloseTo: (expected: number, digits = 2) =>
        check(Math.abs(number - expected) < 0.5 * 10 ** -digits, 'to be close to', expected),
      toBeInstanceOf: (kind: new (...given: never[]) => unknown) =>
        check(actual instanceof kind, 'to be an instance of', kind),
      toContain: (expected: unknown) =>
        check((actual as unknown[]).includes(expected), 'to contain', expected),
      toBeNull: () => check(actual === null, 'to be null'),
      toBeDefined: () => check(actual !== undefined, 'to be defined'),
      toBeLessThan: (expected: number) => check(number < expected, 'to be less than', expected),
      toBeLessThanOrEqual: (expected: number) => check(number <= expected, 'to be at most', expected),
      toBeGreaterThan: (expected: number) => check(number > expected, 'to be greater than', expected),
      toHaveLength: (length: number) =>
        check((actual as unknown[]).length === length, 'to have length', length),
      toMatch: (pattern: RegExp) => check(pattern.test(String(actual)), 'to match', pattern),
      toThrow: (expected: Thrown = '') => {
        let thrown: unknown;
        try {
          (actual as Body)();
        } catch (error) {
          thrown = error;
        }
        const text = thrown instanceof Error ? thrown.message : '';
        const matches =
          typeof expected === 'function'
            ? thrown instanceof expected
            : expected instanceof RegExp
              ? expected.test(text)
              : text.includes(expected);
        check(thrown !== undefined && matches, 'to throw', expected);
      },
    };
  };
  return {
    ...assertions(true),
    not: assertions(false),
    /** Assertions on the error of a rejected promise; only those that the tests use. */
    rejects: {
      toBe: async (expected: unknown) => expect(await rejection(actual), message).toBe(expected),
      toBeInstanceOf: async (kind: new (...given: never[]) => unknown) =>
        expect(await rejection(actual), message).toBeInstanceOf(kind),
      toThrow: async (expected: Thrown = '') => {
        const error = await rejection(actual);
        expect(() => {
          throw error;
        }, message).toThrow(expected);
      },
    },
  };
}

async function rejection(promise: unknown): Promise<unknown> {
  const value = await Promise.resolve(promise).then(
    (value: unknown) => ({ value }),
    (error: unknown) => ({ error }),
  );
  if ('error' in value) return value.error;
  throw new Error(`expected the promise to be rejected, but it resolved to ${inspect(value.value)}`);
}

/** A copy without undefined properties, which toEqual ignores. */
function plain(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(plain);
  if (value === null || typeof value !== 'object' || ArrayBuffer.isView(value)) return value;
  return Object.fromEntries(
    Object.entries(value)
      .filter(([, each]) => each !== undefined)
      .map(([key, each]) => [key, plain(each)]),
  );
}

/**
 * Runs the registered tests whose names match `only`; the bundle calls it after loading its file.
 *
 * @param shard I/N: only every N-th test, from the I-th on
 */
export async function runRegistered(file: string, only: RegExp, shard = '0/1'): Promise<void> {
  const [index, of] = shard.split('/').map(Number) as [number, number];
  const done = new Set<Suite>();
  let [passed, failed] = [0, 0];
  const started = performance.now();
  for (const [i, { name, body, suites: around }] of cases.entries()) {
    if (i % of !== index) continue;
    const full = [...around.slice(1).map(({ prefix }) => prefix), name].join(' > ');
    if (!only.test(full)) continue;
    process.stderr.write(`${((performance.now() - started) / 1000).toFixed(1)} s ${file} > ${full}\n`);
    try {
      for (const each of around) {
        if (done.has(each)) continue;
        done.add(each);
        for (const before of each.before) await before();
      }
      for (const each of around) for (const before of each.beforeEach) await before();
      await body();
      for (const each of around) for (const after of each.afterEach) await after();
      passed += 1;
    } catch (error) {
      failed += 1;
      const cause = error instanceof Error && error.cause !== undefined ? messageOf(error.cause) : '';
      const text = `${cause} ${messageOf(error)}`; // fast-check keeps the reason in the cause
      console.log(`FAILED ${file} > ${full}: ${text.replace(/\s+/g, ' ').slice(0, 600)}`);
      // These errors destroy the CUDA context: no further test can use the GPU.
      if (/ILLEGAL_ADDRESS|LAUNCH_FAILED|MISALIGNED/.test(text)) break;
      // A kernel that never ends blocks every later call, including an orderly exit.
      if (/has not ended after/.test(text)) process.kill(process.pid, 'SIGKILL');
    }
  }
  for (const each of done) for (const after of each.after) await after();
  const seconds = ((performance.now() - started) / 1000).toFixed(1);
  console.log(`${file}: ${passed} passed, ${failed} failed, ${skipped} skipped in ${seconds} s`);
  process.exit(failed > 0 ? 1 : 0);
}
