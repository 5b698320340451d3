/** Conditions that tell a format from other files with the same first bytes. */

/** The first and the last bytes of a file, and its size in bytes. */
export interface Ends {
  head: Buffer;
  tail: Buffer;
  size: number;
}

/** The little-endian number at a position; -1 after the end. */
export function u32(bytes: Buffer, at: number): number {
  return at >= 0 && bytes.length >= at + 4 ? bytes.readUInt32LE(at) : -1;
}

/** Whether the bytes at a position are these characters of Latin-1. */
export function has(bytes: Buffer, text: string, at: number): boolean {
  return at >= 0 && bytes.subarray(at, at + text.length).equals(Buffer.from(text, 'latin1'));
}

/** The condition that a file ends with these characters of Latin-1. */
export function endsWith(text: string): (ends: Ends) => boolean {
  return ({ tail }) => has(tail, text, tail.length - text.length);
}

/** The name of the first entry of a ZIP archive. */
export function zipEntry(head: Buffer): string {
  return head.length < 30 ? '' : head.toString('utf8', 30, 30 + head.readUInt16LE(26));
}

/** The type that an EPUB or OpenDocument archive declares in its first entry, which is not compressed; empty for others. */
export function zipMimetype(head: Buffer): string {
  if (zipEntry(head) !== 'mimetype') return '';
  const start = 38 + head.readUInt16LE(28);
  return head.toString('latin1', start, start + u32(head, 18));
}

/** Skippable frames, as pzstd writes them, before a frame of zstd and not of LZ4 (RFC 8878, section 3.1.2). */
export function isSkippedZstd(head: Buffer): boolean {
  let at = 0;
  while (has(head, '\x2a\x4d\x18', at + 1) && ((head[at] ?? 0) & 0xf0) === 0x50) at += 8 + u32(head, at + 4);
  return at > 0 && has(head, '\x28\xb5\x2f\xfd', at);
}

/** `BZh`, the level, then the first block or the end of an empty stream. */
export function isBzip2(head: Buffer): boolean {
  const level = head[3] ?? 0;
  const isLevel = level >= 0x31 && level <= 0x39;
  return isLevel && (has(head, '1AY&SY', 4) || has(head, '\x17\x72\x45\x38\x50\x90', 4));
}

/** The header of .lzma: properties, a dictionary size that is a power of two, the size of the content or -1. */
export function isLzma(head: Buffer): boolean {
  const dictionary = u32(head, 1);
  const isPower = dictionary >= 4096 && (dictionary & (dictionary - 1)) === 0;
  return (
    isPower && head.length >= 13 && (head.readBigInt64LE(5) === -1n || head.readBigUInt64LE(5) < 2n ** 40n)
  );
}

const BITRATES = [0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320];
const SAMPLE_RATES = [44_100, 48_000, 32_000];

/** Two frames of MPEG 1, layer 3, one after the other. */
export function isMp3(head: Buffer): boolean {
  const frameBytes = (at: number) => {
    if (head[at] !== 0xff || ((head[at + 1] ?? 0) & 0xfe) !== 0xfa) return 0;
    const flags = head[at + 2] ?? 0;
    const bitrate = BITRATES[flags >> 4] ?? 0;
    const rate = SAMPLE_RATES[(flags >> 2) & 3];
    return rate === undefined || bitrate === 0
      ? 0
      : Math.floor((144_000 * bitrate) / rate) + ((flags >> 1) & 1);
  };
  const first = frameBytes(0);
  return first > 0 && frameBytes(first) > 0;
}

/** Opcodes that a pickle of a list, dict, tuple, string, number or class may have after its protocol. */
const PICKLE_OPCODES = new Set(Buffer.from('}]()cXTKJGNUBC\x88\x89\x8a\x8c\x8e\x8f\x95', 'latin1'));

/** Protocol 2 to 5, an opcode, and the STOP opcode at the end. */
export function isPickle({ head, tail }: Ends): boolean {
  const protocol = head[1] ?? 0;
  return protocol >= 2 && protocol <= 5 && PICKLE_OPCODES.has(head[2] ?? 0) && tail.at(-1) === 0x2e;
}

/** The length of a JSON header, within the file, and its first characters. */
export function isSafetensors(head: Buffer, size: number): boolean {
  if (head.length < 10) return false;
  const length = head.readBigUInt64LE(0);
  return length >= 2n && length <= BigInt(size - 8) && /^\{\s*["}]/.test(head.toString('latin1', 8, 16));
}

/** Protocol buffers with the pieces of a vocabulary: each a string and a score. */
export function isSentencePiece(head: Buffer): boolean {
  const length = head[1] ?? 0;
  const text = head[3] ?? 0;
  return head[0] === 0x0a && head[2] === 0x0a && text > 0 && text + 2 <= length && head[4 + text] === 0x15;
}

/** A document with its own size and a first element. */
export function isBson(head: Buffer, size: number): boolean {
  const bytes = u32(head, 0);
  const type = head[4] ?? 0;
  const name = head.toString('latin1', 5, 69).split('\0')[0] as string;
  return bytes >= 8 && bytes <= size && type >= 1 && type <= 0x13 && /^[A-Za-z_$][\w.$-]{0,62}$/.test(name);
}

/** Files of llm.c begin with 256 int32: a magic number that is a date, a version, some sizes, and zeros. */
export function isLlmC(head: Buffer): boolean {
  if (head.length < 1024) return false;
  const date = /^20[2-3]\d(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])$/;
  if (!date.test(String(head.readInt32LE(0))) || u32(head, 4) > 1000) return false;
  return head.subarray(64, 1024).every((byte) => byte === 0);
}

/** A length, and the masked checksum of these eight bytes (tensorflow/core/lib/io/record_writer.h). */
export function isTfRecord(head: Buffer): boolean {
  if (head.length < 12) return false;
  const checksum = crc32c(head.subarray(0, 8));
  const masked = (((checksum >>> 15) | (checksum << 17)) + 0xa282ead8) >>> 0;
  return u32(head, 8) === masked;
}

/** CRC-32C (Castagnoli), bit by bit: for a few bytes. */
function crc32c(bytes: Uint8Array): number {
  let crc = 0xffffffff;
  for (const byte of bytes) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ 0x82f63b78 : crc >>> 1;
  }
  return (crc ^ 0xffffffff) >>> 0;
}
