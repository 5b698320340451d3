/** Tables in device memory: one upload for each content, again after an abandoned recording; the oldest are freed. */
import { expect, it } from 'vitest';
import { DeviceTables, type TableOwner } from '../../../src/backends/cuda/driver/device-tables.js';
import type { Block } from '../../../src/backends/cuda/driver/memory.js';

function start() {
  const uploads: number[] = [];
  const freed: number[] = [];
  const abandoned = new Set<number>();
  let address = 0;
  let recordedIn = 0;
  const owner: TableOwner = {
    device: {
      allocate: () => ({ address: ++address }) as Block,
      release: (block) => freed.push(block.address),
    },
    get recordedIn() {
      return recordedIn;
    },
    isAbandoned: (recording) => abandoned.has(recording),
    upload: (to) => uploads.push(to),
  };
  const record = (recording: number) => {
    recordedIn = recording;
  };
  return { tables: new DeviceTables(owner), uploads, freed, abandoned, record };
}

it('uploads a content once', () => {
  const { tables, uploads } = start();
  const address = tables.addressOf(Uint8Array.of(1, 200));
  expect(tables.addressOf(Uint8Array.of(1, 200))).toBe(address);
  expect(tables.addressOf(Uint8Array.of(1, 201))).not.toBe(address);
  expect(uploads).toHaveLength(2);
});

it('uploads again if the recording of the upload was abandoned', () => {
  const { tables, uploads, freed, abandoned, record } = start();
  record(1);
  const first = tables.addressOf(Uint8Array.of(1));
  abandoned.add(1);
  record(2);
  const second = tables.addressOf(Uint8Array.of(1));
  expect(freed).toEqual([first]);
  expect(tables.addressOf(Uint8Array.of(1))).toBe(second);
  expect(uploads).toEqual([first, second]);
});

it('frees the oldest of more than 64 tables', () => {
  const { tables, uploads, freed } = start();
  const addresses = Array.from({ length: 65 }, (_, i) => tables.addressOf(Uint8Array.of(i)));
  expect(freed).toEqual(addresses.slice(0, 1));
  tables.addressOf(Uint8Array.of(64));
  expect(uploads).toHaveLength(65);
});
