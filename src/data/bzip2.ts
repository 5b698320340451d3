/**
 * Decompresses bzip2 block by block, with the checksums of blocks and streams, and streams after one another as `pbzip2` and
 * `cat` produce. The packages for it either hold the whole file in memory or fail on short or cut files. The format is that
 * of bzip2 1.0's decompress.c.
 */
import { BitReader, type HuffmanTable, LONGEST_CODE, tableOf } from './huffman.js';

const BLOCK = [0x314159, 0x265359] as const;
const END = [0x177245, 0x385090] as const;
/** Symbols of a Huffman group. */
const GROUP_SIZE = 50;
const OUT_BYTES = 2 ** 20;

/**
 * The decompressed bytes; a chunk is valid until the next one.
 *
 * @throws Error for damaged bytes or an early end
 */
export function* unpackBzip2(chunks: Iterable<Buffer>): Generator<Buffer> {
  const bits = new BitReader(chunks);
  const out = Buffer.alloc(OUT_BYTES);
  try {
    for (let first = true; first || !bits.atEnd(); first = false) {
      const level = streamLevel(bits);
      const links = new Uint32Array(level * 100_000);
      let combined = 0;
      for (;;) {
        const [high, low] = [bits.read(24), bits.read(24)];
        const expected = bits.readUint32();
        if (high === END[0] && low === END[1]) {
          if (expected !== combined >>> 0) throw new Error('the checksum of a stream differs');
          bits.align();
          break;
        }
        if (high !== BLOCK[0] || low !== BLOCK[1]) throw new Error('a block has no header');
        const checksum = yield* unpackBlock(bits, links, out);
        if (checksum !== expected) throw new Error('the checksum of a block differs');
        combined = ((combined << 1) | (combined >>> 31)) ^ checksum;
      }
    }
  } finally {
    bits.close();
  }
}

/** The size of the blocks of a stream in units of 100,000 bytes. */
function streamLevel(bits: BitReader): number {
  const magic = bits.read(24);
  const level = bits.read(8) - 0x30;
  if (magic !== 0x425a68 || level < 1 || level > 9)
    throw new Error('bytes follow that are not a bzip2 stream');
  return level;
}

/** Reads a block into `links`, the inverse of its Burrows-Wheeler transform, and yields its bytes. Returns their checksum. */
function* unpackBlock(bits: BitReader, links: Uint32Array, out: Buffer): Generator<Buffer, number> {
  if (bits.read(1) === 1) throw new Error('a randomised block, of bzip2 before 0.9.5');
  const origin = bits.read(24);
  const { size, counts } = readSymbols(bits, links);
  if (origin >= size) throw new Error('a block starts outside itself');
  let sum = 0;
  for (let byte = 0; byte < 256; byte++) {
    const count = counts[byte] as number;
    counts[byte] = sum;
    sum += count;
  }
  for (let i = 0; i < size; i++) {
    const byte = (links[i] as number) & 0xff;
    const at = counts[byte] as number;
    counts[byte] = at + 1;
    links[at] = ((links[at] as number) | (i << 8)) >>> 0;
  }
  let crc = -1;
  let filled = 0;
  let run = 0;
  let last = -1;
  let position = (links[origin] as number) >>> 8;
  for (let i = 0; i < size; i++) {
    const link = links[position] as number;
    const byte = link & 0xff;
    position = link >>> 8;
    // After four equal bytes the next one counts further repetitions.
    const repeats = run === 4 ? byte : 1;
    const value = run === 4 ? last : byte;
    if (run === 4) {
      run = 0;
      last = -1;
    } else {
      run = byte === last ? run + 1 : 1;
      last = byte;
    }
    for (let r = 0; r < repeats; r++) {
      out[filled++] = value;
      crc = (crc << 8) ^ (CRC[((crc >>> 24) ^ value) & 0xff] as number);
      if (filled === out.length) {
        yield out;
        filled = 0;
      }
    }
  }
  if (filled > 0) yield out.subarray(0, filled);
  return ~crc >>> 0;
}

/** Decodes the symbols of a block into the low bytes of `links`: Huffman codes, runs, move to front. */
function readSymbols(bits: BitReader, links: Uint32Array): { size: number; counts: Uint32Array } {
  const front = readUsed(bits);
  const alphabet = front.length + 2;
  const { selectors, tables } = readTables(bits, alphabet);
  const counts = new Uint32Array(256);
  const endOfBlock = alphabet - 1;
  let size = 0;
  let runLength = 0;
  let runBit = 1;
  for (let symbols = 0; ; symbols++) {
    const selector = selectors[Math.floor(symbols / GROUP_SIZE)];
    if (selector === undefined) throw new Error('a block has too few Huffman tables');
    const symbol = bits.readCode(tables[selector] as HuffmanTable);
    if (symbol <= 1) {
      runLength += runBit << symbol;
      runBit <<= 1;
      if (runLength > links.length) throw new Error('a run is longer than its block');
      continue;
    }
    if (runLength > 0) {
      const byte = front[0] as number;
      if (size + runLength > links.length) throw new Error('a block is longer than its size');
      links.fill(byte, size, size + runLength);
      counts[byte] = (counts[byte] as number) + runLength;
      size += runLength;
      runLength = 0;
      runBit = 1;
    }
    if (symbol === endOfBlock) return { size, counts };
    if (size === links.length) throw new Error('a block is longer than its size');
    const byte = front[symbol - 1] as number;
    front.copyWithin(1, 0, symbol - 1);
    front[0] = byte;
    links[size++] = byte;
    counts[byte] = (counts[byte] as number) + 1;
  }
}

/** The byte values that occur in a block: a map of 16 ranges, then one of each range that is used. */
function readUsed(bits: BitReader): Uint8Array {
  const ranges = bits.read(16);
  const used: number[] = [];
  for (let range = 0; range < 16; range++) {
    if ((ranges & (0x8000 >> range)) === 0) continue;
    const values = bits.read(16);
    for (let i = 0; i < 16; i++) if ((values & (0x8000 >> i)) !== 0) used.push(16 * range + i);
  }
  if (used.length === 0) throw new Error('a block uses no byte');
  return Uint8Array.from(used);
}

function readTables(bits: BitReader, alphabet: number): { selectors: Uint8Array; tables: HuffmanTable[] } {
  const groups = bits.read(3);
  const count = bits.read(15);
  if (groups < 2 || groups > 6 || count === 0)
    throw new Error('a block has an invalid number of Huffman tables');
  const order = Uint8Array.from({ length: groups }, (_, i) => i);
  const selectors = new Uint8Array(count);
  for (let i = 0; i < count; i++) {
    let at = 0;
    while (bits.read(1) === 1) if (++at >= groups) throw new Error('a block selects a missing Huffman table');
    const selected = order[at] as number;
    order.copyWithin(1, 0, at);
    order[0] = selected;
    selectors[i] = selected;
  }
  const tables = Array.from({ length: groups }, () => {
    const lengths = new Uint8Array(alphabet);
    let length = bits.read(5);
    for (let symbol = 0; symbol < alphabet; symbol++) {
      for (;;) {
        if (length < 1 || length > LONGEST_CODE) throw new Error('a Huffman code has an invalid length');
        if (bits.read(1) === 0) break;
        length += bits.read(1) === 0 ? 1 : -1;
      }
      lengths[symbol] = length;
    }
    return tableOf(lengths);
  });
  return { selectors, tables };
}

/** CRC-32 of the polynomial 0x04c11db7, the most significant bit first. */
const CRC = Int32Array.from({ length: 256 }, (_, byte) => {
  let crc = byte << 24;
  for (let bit = 0; bit < 8; bit++) crc = crc < 0 ? (crc << 1) ^ 0x04c11db7 : crc << 1;
  return crc;
});
