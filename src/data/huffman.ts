/** Bits of a stream and canonical Huffman codes, the most significant bit first, as bzip2 has them. */

/** Bits of the longest code. */
export const LONGEST_CODE = 20;
/** Bits of the codes that are looked up at once. */
const LOOKUP_BITS = 11;
const EARLY_END = 'it ends early';

/** A canonical Huffman code by length: the largest code, what to subtract from a code, and the symbols in order. */
export interface HuffmanTable {
  shortest: number;
  limits: Int32Array;
  bases: Int32Array;
  symbols: Uint16Array;
  /** By the next LOOKUP_BITS bits: length · 2¹⁶ + symbol; 0 for longer codes. */
  lookup: Uint32Array;
}

/** The table of the codes whose lengths are given by symbol. */
export function tableOf(lengths: Uint8Array): HuffmanTable {
  const limits = new Int32Array(LONGEST_CODE + 1).fill(-1);
  const bases = new Int32Array(LONGEST_CODE + 1);
  const symbols = new Uint16Array(lengths.length);
  const lookup = new Uint32Array(2 ** LOOKUP_BITS);
  let code = 0;
  let filled = 0;
  for (let length = 1; length <= LONGEST_CODE; length++) {
    bases[length] = code - filled;
    for (let symbol = 0; symbol < lengths.length; symbol++) {
      if (lengths[symbol] !== length) continue;
      symbols[filled++] = symbol;
      if (length <= LOOKUP_BITS) {
        const shift = LOOKUP_BITS - length;
        lookup.fill((length << 16) | symbol, code << shift, (code + 1) << shift);
      }
      code += 1;
    }
    limits[length] = code - 1;
    code <<= 1;
  }
  return { shortest: Math.min(...lengths), limits, bases, symbols, lookup };
}

/** Bits of consecutive chunks, the most significant of each byte first. */
export class BitReader {
  private readonly chunks: Iterator<Buffer>;
  private chunk: Buffer = Buffer.alloc(0);
  private at = 0;
  private bits = 0;
  private count = 0;

  constructor(chunks: Iterable<Buffer>) {
    this.chunks = chunks[Symbol.iterator]();
  }

  /** Ends the reading of chunks. */
  close(): void {
    this.chunks.return?.();
  }

  /** Whether no byte is left. */
  atEnd(): boolean {
    return this.count === 0 && !this.fill();
  }

  /** Up to 24 bits. */
  read(count: number): number {
    while (this.count < count) {
      if (this.at >= this.chunk.length && !this.fill()) throw new Error(EARLY_END);
      this.bits = (this.bits << 8) | (this.chunk[this.at++] as number);
      this.count += 8;
    }
    this.count -= count;
    return (this.bits >>> this.count) & ((1 << count) - 1);
  }

  readUint32(): number {
    return ((this.read(16) << 16) | this.read(16)) >>> 0;
  }

  /** Drops the bits up to the next byte. */
  align(): void {
    this.count -= this.count % 8;
  }

  readCode({ shortest, limits, bases, symbols, lookup }: HuffmanTable): number {
    while (this.count < LOOKUP_BITS && (this.at < this.chunk.length || this.fill())) {
      this.bits = (this.bits << 8) | (this.chunk[this.at++] as number);
      this.count += 8;
    }
    if (this.count >= LOOKUP_BITS) {
      const found = lookup[(this.bits >>> (this.count - LOOKUP_BITS)) & (2 ** LOOKUP_BITS - 1)] as number;
      if (found > 0) {
        this.count -= found >>> 16;
        return found & 0xffff;
      }
    }
    let code = this.read(shortest);
    for (let length = shortest; length <= LONGEST_CODE; length++) {
      if (code <= (limits[length] as number)) {
        const symbol = symbols[code - (bases[length] as number)];
        if (symbol !== undefined) return symbol;
        break;
      }
      code = (code << 1) | this.read(1);
    }
    throw new Error('a Huffman code is not in its table');
  }

  /** Reads the next chunk, if the last one is used up. */
  private fill(): boolean {
    while (this.at >= this.chunk.length) {
      const next = this.chunks.next();
      if (next.done === true) return false;
      this.chunk = next.value;
      this.at = 0;
    }
    return true;
  }
}
