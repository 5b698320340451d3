/**
 * The caching allocator: segments from the driver, split into blocks that are merged again when they are freed. All work
 * runs on one stream, so a freed block can be allocated again at once.
 */
import { DeviceMemoryError } from '../../../errors.js';
import type { Address } from './driver.js';

/** A part of a segment, with its neighbours in the segment, so that free ones can be merged. */
export interface Block {
  address: Address;
  bytes: number;
  free: boolean;
  previous: Block | null;
  next: Block | null;
  segment: Segment;
}

/** One allocation of the driver. */
interface Segment {
  small: boolean;
  pool: Pool;
}

/** The part of the driver that the allocator uses. */
export interface MemorySource {
  allocate(bytes: number): Address | null;
  free(address: Address): void;
  synchronize(): void;
  memoryInfo(): { free: number; total: number };
}

const GRANULARITY = 512;
const MIB = 2 ** 20;
/** Requests below this size share segments of 2 MiB; larger ones have segments of 32 MiB or of their own size. */
const SMALL = MIB;
const SMALL_SEGMENT = 2 * MIB;
const LARGE_SEGMENT = 32 * MIB;
/**
 * Blocks above this size are kept for requests of at least half their size while the GPU has other memory. Otherwise a
 * gradient that outlives its micro-batch would be cut out of the block of the logits, and the next micro-batch, whose logits
 * no longer fit, would reserve as much again.
 */
const KEPT_WHOLE = 256 * MIB;

/** Bytes in use now and at their peak; bytes reserved from the driver. */
export interface MemoryUse {
  current: number;
  peak: number;
  reserved: number;
}

/** Free blocks of small and of large segments, sorted by size. A recorded step has a separate pool. */
interface Pool {
  small: Block[];
  large: Block[];
}

export class DeviceMemory {
  private readonly shared: Pool = { small: [], large: [] };
  private pool = this.shared;
  private readonly segments = new Set<Segment>();
  private readonly use: MemoryUse = { current: 0, peak: 0, reserved: 0 };
  private trimsNext = false;

  constructor(private readonly source: MemorySource) {}

  /**
   * A block of at least this many bytes, aligned to 512.
   *
   * @throws DeviceMemoryError if out of memory
   */
  allocate(bytes: number): Block {
    const size = Math.max(GRANULARITY, Math.ceil(bytes / GRANULARITY) * GRANULARITY);
    if (this.trimsNext && this.pool === this.shared) this.trim();
    const block = this.takeFree(size, KEPT_WHOLE) ?? this.takeNew(size);
    block.free = false;
    this.use.current += block.bytes;
    this.use.peak = Math.max(this.use.peak, this.use.current);
    return block;
  }

  /** Frees a block and merges it with its free neighbours. */
  release(block: Block): void {
    if (block.free) throw new Error('double free of device memory');
    this.use.current -= block.bytes;
    block.free = true;
    let joined = block;
    const { next, previous } = block;
    if (next?.free) {
      remove(listOf(next), next);
      absorb(joined, next);
    }
    if (previous?.free) {
      remove(listOf(previous), previous);
      absorb(previous, joined);
      joined = previous;
    }
    insert(listOf(joined), joined);
  }

  memory(): MemoryUse {
    return { ...this.use };
  }

  /** Runs a body whose allocations come from a new pool, which later replays of a recorded step write to. */
  inOwnPool<T>(body: () => T): { result: T; pool: object } {
    const pool: Pool = { small: [], large: [] };
    this.pool = pool;
    try {
      return { result: body(), pool };
    } catch (error) {
      this.dissolve(pool);
      throw error;
    } finally {
      this.pool = this.shared;
    }
  }

  /** Merges a pool of inOwnPool into the shared one. */
  dissolve(pool: object): void {
    for (const segment of this.segments) if (segment.pool === pool) segment.pool = this.shared;
    const { small, large } = pool as Pool;
    for (const block of [...small, ...large]) insert(listOf(block), block);
  }

  /** Returns free segments to the driver. It synchronizes the stream, which is not possible during capture. */
  trim(): void {
    this.trimsNext = false;
    this.source.synchronize();
    for (const list of [this.shared.small, this.shared.large]) {
      for (const block of [...list]) {
        if (block.previous !== null || block.next !== null) continue;
        list.splice(list.indexOf(block), 1);
        this.segments.delete(block.segment);
        this.source.free(block.address);
        this.use.reserved -= block.bytes;
      }
    }
  }

  /** The smallest free block of at least `size` bytes; null if there is none, or if it is above `keptWhole` and twice as large. */
  private takeFree(size: number, keptWhole: number): Block | null {
    const list = size < SMALL ? this.pool.small : this.pool.large;
    const at = firstAtLeast(list, size);
    const block = list[at];
    if (block === undefined || (block.bytes > keptWhole && block.bytes > 2 * size)) return null;
    list.splice(at, 1);
    return this.cut(block, size);
  }

  /** `trim` before the next allocation outside a capture: others than this allocator need memory, and work in progress fails. */
  trimLater(): void {
    this.trimsNext = true;
  }

  private takeNew(size: number): Block {
    const small = size < SMALL;
    const least = small ? SMALL_SEGMENT : size < LARGE_SEGMENT / 2 ? LARGE_SEGMENT : size;
    const segmentBytes = Math.ceil(least / SMALL_SEGMENT) * SMALL_SEGMENT;
    let address = this.source.allocate(segmentBytes);
    if (address === null) {
      const block = this.takeFree(size, Number.POSITIVE_INFINITY);
      if (block !== null) return block;
    }
    if (address === null && this.pool === this.shared) {
      this.trim();
      address = this.source.allocate(segmentBytes);
    }
    if (address === null) {
      const { free, total } = this.source.memoryInfo();
      throw new DeviceMemoryError(
        `out of GPU memory: cannot allocate ${mebibytes(size)}; ${mebibytes(this.use.current)} in use here, ` +
          `${mebibytes(free)} of ${mebibytes(total)} free`,
      );
    }
    this.use.reserved += segmentBytes;
    const segment: Segment = { small, pool: this.pool };
    this.segments.add(segment);
    return this.cut({ address, bytes: segmentBytes, free: true, previous: null, next: null, segment }, size);
  }

  /** The first `size` bytes of a block that is in no list; the rest becomes a free block if it is large enough. */
  private cut(block: Block, size: number): Block {
    const rest = block.bytes - size;
    // Requests this small come from small segments: a small remainder of a large one would stay unused.
    if (rest < (block.segment.small ? GRANULARITY : SMALL)) return block;
    const tail: Block = {
      address: block.address + size,
      bytes: rest,
      free: true,
      previous: block,
      next: block.next,
      segment: block.segment,
    };
    if (block.next !== null) block.next.previous = tail;
    block.next = tail;
    block.bytes = size;
    insert(listOf(tail), tail);
    return block;
  }
}

function listOf({ segment }: Block): Block[] {
  return segment.small ? segment.pool.small : segment.pool.large;
}

/** Merges the next block into this one. */
function absorb(block: Block, next: Block): void {
  block.bytes += next.bytes;
  block.next = next.next;
  if (next.next !== null) next.next.previous = block;
}

/** Index of the first block of at least `size` bytes in a list sorted by size. */
function firstAtLeast(list: Block[], size: number): number {
  let [low, high] = [0, list.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((list[middle] as Block).bytes < size) low = middle + 1;
    else high = middle;
  }
  return low;
}

function insert(list: Block[], block: Block): void {
  list.splice(firstAtLeast(list, block.bytes), 0, block);
}

function remove(list: Block[], block: Block): void {
  list.splice(list.indexOf(block), 1);
}

function mebibytes(bytes: number): string {
  return `${(bytes / MIB).toFixed(0)} MiB`;
}
