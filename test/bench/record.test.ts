/** The records of `mod bench` for `mod plan`: one per shape, invalid files count as empty, the nearest one is chosen. */
import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { homedir, hostname, tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterAll, expect, it } from 'vitest';
import {
  addBenchRecord,
  type BenchRecord,
  benchRecordPath,
  nearestRecord,
  readBenchRecords,
} from '../../src/bench/record.js';

const folder = mkdtempSync(join(tmpdir(), 'mod-record-'));
afterAll(() => rmSync(folder, { recursive: true }));

const RECORD: BenchRecord = {
  host: hostname(),
  backend: 'wasm',
  device: 'a CPU',
  precision: 'fp32',
  shape: 'd128l4t256b8v256',
  d_model: 128,
  routed: false,
  flops_per_second: 1e10,
  measured_at: '2026-01-01T00:00:00.000Z',
};
const QUERY = { backend: 'auto', precision: 'auto', d_model: 128, routed: false } as const;

it('is in the cache folder of the user', () => {
  expect(benchRecordPath({ XDG_CACHE_HOME: '/cache' })).toBe('/cache/mod/bench.json');
  expect(benchRecordPath({ XDG_CACHE_HOME: '' })).toBe(join(homedir(), '.cache/mod/bench.json'));
});

it('keeps the newest record of a machine, device, precision and shape, and leaves no other file', () => {
  const path = benchRecordPath({ XDG_CACHE_HOME: join(folder, 'new') }) as string;
  addBenchRecord(path, RECORD);
  addBenchRecord(path, { ...RECORD, precision: 'bf16' });
  addBenchRecord(path, { ...RECORD, flops_per_second: 2e10 });
  expect(readBenchRecords(path).map(({ flops_per_second }) => flops_per_second)).toEqual([1e10, 2e10]);
  expect(readdirSync(dirname(path))).toEqual(['bench.json']);
});

it.each(['', '{', '{}', 'null', '[1, {"host": 2}]'])(
  'reads a file with %j as empty and repairs it',
  (text) => {
    const path = join(folder, 'broken', 'bench.json');
    mkdirSync(dirname(path), { recursive: true });
    writeFileSync(path, text);
    expect(readBenchRecords(path)).toEqual([]);
    addBenchRecord(path, RECORD);
    expect(readBenchRecords(path)).toEqual([RECORD]);
  },
);

it('takes the nearest width, preferring a record of the same kind up to a factor of two', () => {
  const records = [
    { ...RECORD, d_model: 64, shape: 'narrow' },
    { ...RECORD, d_model: 512, shape: 'wide' },
    { ...RECORD, d_model: 192, routed: true, shape: 'routed' },
  ];
  const nearest = (d_model: number, routed: boolean) =>
    nearestRecord(records, { ...QUERY, d_model, routed })?.shape;
  expect(nearest(96, false)).toBe('narrow');
  expect(nearest(400, false)).toBe('wide');
  expect(nearest(96, true)).toBe('routed');
  expect(nearest(512, true)).toBe('wide');
});

it('takes the backend of auto, the newest of equal records, and none of another machine', () => {
  const cuda: BenchRecord = { ...RECORD, backend: 'cuda', precision: 'bf16', d_model: 2048 };
  const newer = { ...RECORD, shape: 'newer', measured_at: '2026-01-02T00:00:00.000Z' };
  expect(nearestRecord([RECORD, cuda], QUERY)).toBe(cuda);
  expect(nearestRecord([RECORD, cuda], { ...QUERY, backend: 'wasm' })).toBe(RECORD);
  expect(nearestRecord([RECORD, cuda], { ...QUERY, precision: 'fp32' })).toBe(RECORD);
  expect(nearestRecord([RECORD, newer], QUERY)).toBe(newer);
  expect(nearestRecord([RECORD], { ...QUERY, backend: 'tensorflow' })).toBeNull();
  expect(nearestRecord([{ ...RECORD, host: 'elsewhere' }], QUERY)).toBeNull();
});
