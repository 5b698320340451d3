/** Read-only tables in device memory, keyed by content: a step that uses the same addresses again uploads no new table. */
import type { Address } from './driver.js';
import type { Block, DeviceMemory } from './memory.js';

/** The part of the backend that the tables use. */
export interface TableOwner {
  readonly device: Pick<DeviceMemory, 'allocate' | 'release'>;
  /** The number of the current recording; 0 if work runs at once. */
  readonly recordedIn: number;
  isAbandoned(recording: number): boolean;
  upload(to: Address, bytes: Uint8Array): void;
}

interface Table {
  block: Block;
  /** The recording that contains the upload. */
  recordedIn: number;
}

/** Steps that are not recorded may use new addresses each time, so the oldest of more than this many tables is freed. */
const MAX_TABLES = 64;

export class DeviceTables {
  private readonly tables = new Map<string, Table>();

  constructor(private readonly owner: TableOwner) {}

  /** Address of a table with these bytes; uploads it unless the device has it already. */
  addressOf(content: Uint8Array): Address {
    const { owner, tables } = this;
    const key = Buffer.from(content).toString('latin1');
    const found = tables.get(key);
    if (found !== undefined && !owner.isAbandoned(found.recordedIn)) return found.block.address;
    if (found !== undefined) this.free(key, found);
    if (tables.size === MAX_TABLES) this.freeOldest();
    const block = owner.device.allocate(content.length);
    owner.upload(block.address, content);
    tables.set(key, { block, recordedIn: owner.recordedIn });
    return block.address;
  }

  private freeOldest(): void {
    const [oldest] = this.tables;
    if (oldest !== undefined) this.free(...oldest);
  }

  private free(key: string, { block }: Table): void {
    this.owner.device.release(block);
    this.tables.delete(key);
  }
}
