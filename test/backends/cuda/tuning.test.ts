/** The fastest variant is measured once and stored; stored choices that do not exist are measured again. */
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, it } from 'vitest';
import { readCache, writeCache } from '../../../src/backends/cuda/driver/disk-cache.js';
import type { Driver } from '../../../src/backends/cuda/driver/driver.js';
import { ProductTuning } from '../../../src/backends/cuda/driver/tuning.js';

const folder = mkdtempSync(join(tmpdir(), 'mod-tuning-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** A device on which consecutive runs take these times. */
function device(...times: number[]) {
  const driver = {
    deviceName: 'a GPU',
    driverVersion: 1,
    event: () => 0,
    record: () => undefined,
    synchronize: () => undefined,
    elapsed: () => times.shift(),
    destroyEvent: () => undefined,
    allocate: () => 1,
    free: () => undefined,
  } as unknown as Driver;
  return (mayRun = true) => new ProductTuning(driver, 'a library', () => mayRun, folder);
}

const ran: number[] = [];
const variants = [0, 1, 2].map((variant) => () => {
  ran.push(variant);
});

it('measures once, stores the choice, and takes the first variant if nothing may run', () => {
  expect(device()(false).fastestVariant('a product', variants)).toBe(0);
  expect(ran).toEqual([]);
  expect(device(3, 1, 2)().fastestVariant('a product', variants)).toBe(1);
  expect(new Set(ran)).toEqual(new Set([0, 1, 2]));
  expect(device()(false).fastestVariant('a product', variants)).toBe(1);
});

it('measures all algorithms, then the fastest few again', () => {
  const algorithms = [0, 1, 2, 3, 4, 5].map((i) => Uint8Array.of(i));
  const measured: number[] = [];
  const fastest = (...times: number[]) =>
    device(...times)().fastestAlgorithm('another product', algorithms, 1, 0, ([i]) =>
      measured.push(i as number),
    );
  expect(fastest(9, 2, 3, 8, 1, 4, 2, 1.5, 3, 4)).toEqual(Uint8Array.of(1));
  expect([...new Set(measured.slice(-4 * 4))]).toEqual([4, 1, 2, 5]);
  expect(fastest()).toEqual(Uint8Array.of(1)); // stored
});

it('measures again if the file names a variant that does not exist', () => {
  const [file] = readdirSync(folder) as [string];
  for (const content of ['[["a product","7"]]', '[["a product","x"]]', 'not JSON']) {
    writeCache(join(folder, file), Buffer.from(content));
    expect(device(3, 2, 1)().fastestVariant('a product', variants)).toBe(2);
  }
});

it('stores no choice if a variant failed, and keeps those of other processes', () => {
  const fails = () => {
    throw new Error('out of memory');
  };
  const tuning = device(1, 2, 2, 1)();
  expect(tuning.fastestVariant('a full GPU', [() => undefined, fails])).toBe(0);
  device(2, 1)().fastestVariant('of another process', [() => undefined, () => undefined]);
  tuning.fastestVariant('of this one', [() => undefined, () => undefined]);
  const [file] = readdirSync(folder) as [string];
  const known = new Map(JSON.parse(String(readCache(join(folder, file)))) as [string, string][]);
  expect(known.get('of another process')).toBe('1');
  expect(known.get('of this one')).toBeDefined();
  expect(known.has('a full GPU')).toBe(false);
});

it('writes many choices in few writes, and all of them when asked to', () => {
  const tuning = device(...Array.from({ length: 200 }, (_, i) => i))();
  const stored = () => {
    const [file] = readdirSync(folder) as [string];
    const choices = JSON.parse(String(readCache(join(folder, file)))) as [string, string][];
    return choices.filter(([name]) => name.startsWith('of many ')).length;
  };
  for (let i = 0; i < 100; i++) tuning.fastestVariant(`of many ${i}`, [() => undefined, () => undefined]);
  expect(stored()).toBe(1);
  tuning.save();
  expect(stored()).toBe(100);
});
