/** Copies between JavaScript's memory and the device through pinned memory, so that the stream keeps running. */
import { koffi } from '../../../ffi.js';
import type { Address, Driver } from './driver.js';

/** Bytes of each upload buffer. */
const HALF = 4 * 2 ** 20;
/** Smallest size of a download buffer, in bytes. */
const SMALLEST_READ = 4096;

/** Pinned host memory and a JavaScript view of it. */
interface Pinned {
  address: Address;
  bytes: Uint8Array;
}

function pin(driver: Driver, size: number): Pinned {
  const address = driver.allocateHost(size);
  return { address, bytes: new Uint8Array(koffi.view(BigInt(address), size)) };
}

/** Uploads through two buffers: while the device reads one, the host writes the other. */
export class Uploads {
  private readonly halves: { pinned: Pinned; event: Address; pending: boolean }[];
  private current = 0;
  private used = 0;

  constructor(private readonly driver: Driver) {
    this.halves = [0, 1].map(() => ({ pinned: pin(driver, HALF), event: driver.event(), pending: false }));
  }

  /** Queues a copy of these bytes. The caller may change them after this returns. */
  upload(to: Address, bytes: Uint8Array): void {
    for (let done = 0; done < bytes.length; ) {
      if (this.used === HALF) this.switchHalf();
      const size = Math.min(bytes.length - done, HALF - this.used);
      const { pinned } = this.halves[this.current] as (typeof this.halves)[number];
      pinned.bytes.set(bytes.subarray(done, done + size), this.used);
      this.driver.copyToDevice(to + done, pinned.address + this.used, size);
      // Keeps the next piece aligned.
      this.used = Math.min(HALF, this.used + Math.ceil(size / 64) * 64);
      done += size;
    }
  }

  /** `upload` for a recording, which reads the bytes at each replay; few and small, they are never freed. */
  uploadRecorded(to: Address, bytes: Uint8Array): void {
    const pinned = pin(this.driver, bytes.length);
    pinned.bytes.set(bytes);
    this.driver.copyToDevice(to, pinned.address, bytes.length);
  }

  private switchHalf(): void {
    const left = this.halves[this.current] as (typeof this.halves)[number];
    this.driver.record(left.event);
    left.pending = true;
    this.current = 1 - this.current;
    this.used = 0;
    const next = this.halves[this.current] as (typeof this.halves)[number];
    if (next.pending && !this.driver.reached(next.event)) this.driver.synchronize();
    next.pending = false;
  }
}

/** Downloads: queued on the stream, complete when their event is reached. */
export class Downloads {
  private readonly idle: Pinned[] = [];

  constructor(private readonly driver: Driver) {}

  /** The bytes at an address after all work queued so far; blocks this thread. */
  now(from: Address, size: number): Uint8Array {
    const bytes = new Uint8Array(size);
    if (size === 0) return bytes;
    this.driver.copyToHost(Number(koffi.address(bytes)), from, size);
    this.driver.synchronize();
    return bytes;
  }

  /** `now` without blocking: polls an event, so that signals and messages are handled in the meantime. */
  async later(from: Address, size: number): Promise<Uint8Array> {
    if (size === 0) return new Uint8Array(0);
    const pinned = this.take(size);
    const event = this.driver.event();
    this.driver.copyToHost(pinned.address, from, size);
    this.driver.record(event);
    try {
      await this.reached(event);
      return pinned.bytes.slice(0, size);
    } finally {
      this.driver.destroyEvent(event);
      this.idle.push(pinned);
    }
  }

  /** Resolves when the device has reached an event. Short waits spin through the event loop, long ones sleep. */
  private async reached(event: Address): Promise<void> {
    for (let polls = 0; !this.driver.reached(event); polls++) {
      await new Promise<void>((resolve) => {
        if (polls < 50) setImmediate(resolve);
        else setTimeout(resolve, 1);
      });
    }
  }

  private take(size: number): Pinned {
    const at = this.idle.findIndex(({ bytes }) => bytes.length >= size);
    const [found] = at < 0 ? [] : this.idle.splice(at, 1);
    return found ?? pin(this.driver, Math.max(SMALLEST_READ, 2 ** Math.ceil(Math.log2(size))));
  }
}
