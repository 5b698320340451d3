/** The allocator: blocks never overlap, freed blocks are merged, and the out-of-memory error contains the figures. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type Block, DeviceMemory } from '../../../src/backends/cuda/driver/memory.js';
import { DeviceMemoryError } from '../../../src/errors.js';

const MIB = 2 ** 20;

/** A device with this many bytes. */
function device(total: number) {
  let [used, next, calls, capturing] = [0, 4096, 0, false];
  const sizes = new Map<number, number>();
  const memory = new DeviceMemory({
    allocate: (bytes) => {
      if (used + bytes > total) return null;
      calls += 1;
      used += bytes;
      const address = next;
      next += bytes;
      sizes.set(address, bytes);
      return address;
    },
    free: (address) => {
      used -= sizes.get(address) as number;
      sizes.delete(address);
    },
    synchronize: () => {
      if (capturing) throw new Error('a stream cannot be synchronized during capture');
    },
    memoryInfo: () => ({ free: total - used, total }),
  });
  /** Runs a body as during capture: with a separate pool, and without synchronizing. */
  const capture = <T>(body: () => T) =>
    memory.inOwnPool(() => {
      capturing = true;
      try {
        return body();
      } finally {
        capturing = false;
      }
    });
  return { memory, capture, used: () => used, calls: () => calls };
}

describe('device memory', () => {
  it('never allocates a byte twice, and counts the bytes in use', () => {
    const request = fc.record({ bytes: fc.integer({ min: 0, max: 6 * MIB }), free: fc.nat() });
    fc.assert(
      fc.property(fc.array(request, { maxLength: 60 }), (requests) => {
        const { memory } = device(2 ** 40);
        const held: Block[] = [];
        for (const { bytes, free } of requests) {
          const block = memory.allocate(bytes);
          expect(block.bytes).toBeGreaterThan(bytes - 1);
          for (const other of held) {
            const apart =
              block.address + block.bytes <= other.address || other.address + other.bytes <= block.address;
            expect(apart).toBe(true);
          }
          held.push(block);
          if (free % 2 === 1) memory.release(held.splice(free % held.length, 1)[0] as Block);
        }
        expect(memory.memory().current).toBe(held.reduce((sum, block) => sum + block.bytes, 0));
        for (const block of held) memory.release(block);
        expect(memory.memory().current).toBe(0);
        memory.trim();
        expect(memory.memory().reserved).toBe(0);
      }),
    );
  });

  it('allocates nothing from the driver in a second round of the same requests', () => {
    const { memory, calls } = device(2 ** 40);
    const round = () => {
      const blocks = [3, 70, 0.1, 12, 0.5].map((size) => memory.allocate(size * MIB));
      for (const block of blocks) memory.release(block);
    };
    round();
    const before = calls();
    round();
    expect(calls()).toBe(before);
  });

  it('returns free segments to the driver before it fails, then reports the figures', () => {
    const { memory } = device(100 * MIB);
    memory.release(memory.allocate(60 * MIB));
    const large = memory.allocate(90 * MIB);
    expect(() => memory.allocate(20 * MIB)).toThrow(DeviceMemoryError);
    expect(() => memory.allocate(20 * MIB)).toThrow(
      /cannot allocate 20 MiB; 90 MiB in use here, 10 MiB of 100 MiB free/,
    );
    memory.release(large);
    expect(() => memory.release(large)).toThrow(/double free/);
  });

  it('cuts a small block out of a large one only if the GPU has no other memory', () => {
    const { memory, used } = device(1200 * MIB);
    memory.release(memory.allocate(1000 * MIB)); // as the logits of the first micro-batch
    const gradient = memory.allocate(100 * MIB);
    const logits = memory.allocate(1000 * MIB);
    expect(used()).toBe(1100 * MIB);
    memory.release(logits);
    const another = memory.allocate(200 * MIB); // fits in no free memory of the GPU: the large block is cut
    expect(another.address).toBe(logits.address);
    expect(used()).toBe(1100 * MIB);
    for (const block of [gradient, another]) memory.release(block);
    memory.trim();
    expect(memory.memory()).toMatchObject({ current: 0, reserved: 0 });
  });

  it('fails during capture without leaking memory', () => {
    const { memory, capture } = device(100 * MIB);
    memory.release(memory.allocate(60 * MIB));
    const attempt = () =>
      capture(() => {
        const first = memory.allocate(40 * MIB);
        try {
          return memory.allocate(60 * MIB);
        } finally {
          memory.release(first);
        }
      });
    expect(attempt).toThrow(DeviceMemoryError);
    memory.trim();
    expect(memory.memory()).toMatchObject({ current: 0, reserved: 0 });
    expect(attempt).not.toThrow(); // free segments have been returned to the driver
  });

  it('allocates nothing else from the pool of a recorded step until it is dissolved', () => {
    const { memory, calls } = device(2 ** 40);
    const { pool, result } = memory.inOwnPool(() => memory.allocate(40 * MIB));
    memory.release(result);
    expect(memory.allocate(40 * MIB).address === result.address).toBe(false);
    memory.dissolve(pool);
    const before = calls();
    expect(memory.allocate(40 * MIB).address).toBe(result.address);
    expect(calls()).toBe(before);
  });
});
