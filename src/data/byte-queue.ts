/** Bytes that grow at the end and shrink at the start, at a constant cost for each byte. */
export class ByteQueue {
  /** The current bytes; their memory is written again only behind them. */
  bytes: Buffer = Buffer.alloc(0);
  private memory: Buffer = this.bytes;
  private start = 0;

  append(chunk: Uint8Array): void {
    const length = this.bytes.length + chunk.length;
    if (this.start + length > this.memory.length) {
      const memory = Buffer.allocUnsafeSlow(Math.ceil(1.5 * length));
      this.bytes.copy(memory);
      this.memory = memory;
      this.start = 0;
    }
    this.memory.set(chunk, this.start + this.bytes.length);
    this.bytes = this.memory.subarray(this.start, this.start + length);
  }

  /** Removes the first bytes. */
  drop(count: number): void {
    this.start += count;
    this.bytes = this.bytes.subarray(count);
  }
}
