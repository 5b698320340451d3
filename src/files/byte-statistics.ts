/** Counts over the bytes of a file, from which `guess.ts` tells text, token ids and compressed data. */
import { isUtf8 } from 'node:buffer';

/** Part of a file; `isEnd` is whether the file ends with it. Starts at a multiple of 8 bytes. */
export interface Window {
  start: number;
  bytes: Buffer;
  isEnd: boolean;
}

export interface Statistics {
  bytes: number;
  nuls: number;
  /** Control characters that text does not have: neither white space nor backspace or escape. NUL is not among them. */
  controls: number;
  /** Characters beyond ASCII in valid UTF-8, and bytes that are not part of any. */
  multibyte: number;
  invalid: number;
  /** Count of each byte value, [256]. */
  histogram: Uint32Array;
  /** The same for each position modulo 8, [8][256]. */
  lanes: Uint32Array[];
}

/** White space, backspace, and the escape of terminal colours and ISO 2022. */
const TEXT_CONTROLS = new Set([0x08, 0x09, 0x0a, 0x0b, 0x0c, 0x0d, 0x1b]);
/** Share of control characters up to which a file may be text: logs and scanned books have some. */
const MAX_CONTROLS = 0.002;

export function statisticsOf(windows: readonly Window[]): Statistics {
  const counts = new Uint32Array(8 * 256);
  const lanes = Array.from({ length: 8 }, (_, lane) => counts.subarray(256 * lane, 256 * lane + 256));
  const histogram = new Uint32Array(256);
  let multibyte = 0;
  let invalid = 0;
  for (const window of windows) {
    const { bytes } = window;
    for (let i = 0; i < bytes.length; i++) {
      const at = ((i & 7) << 8) | (bytes[i] as number);
      counts[at] = (counts[at] as number) + 1;
    }
    const characters = charactersOf(window);
    multibyte += characters.valid;
    invalid += characters.invalid;
  }
  for (const lane of lanes) {
    for (let byte = 0; byte < 256; byte++)
      histogram[byte] = (histogram[byte] as number) + (lane[byte] as number);
  }
  let controls = histogram[0x7f] as number;
  for (let byte = 1; byte < 0x20; byte++) if (!TEXT_CONTROLS.has(byte)) controls += histogram[byte] as number;
  const bytes = windows.reduce((sum, window) => sum + window.bytes.length, 0);
  return { bytes, nuls: histogram[0] as number, controls, multibyte, invalid, histogram, lanes };
}

/** Whether the bytes are printable text in UTF-8. A few bytes of another encoding among its characters are tolerated. */
export function isUtf8Text(statistics: Statistics): boolean {
  return statistics.nuls === 0 && isNearlyUtf8(statistics);
}

/** The same, but NUL bytes may occur: they may separate documents. */
export function isNearlyUtf8({ bytes, nuls, controls, multibyte, invalid }: Statistics): boolean {
  return controls <= MAX_CONTROLS * bytes && invalid <= multibyte && nuls < bytes / 8;
}

/** Bits per byte of the histogram. */
export function entropyOf({ histogram, bytes }: Pick<Statistics, 'histogram' | 'bytes'>): number {
  return histogram.reduce(
    (sum, count) => sum - (count === 0 ? 0 : (count / bytes) * Math.log2(count / bytes)),
    0,
  );
}

/** Characters beyond ASCII, and bytes that are not UTF-8, of a window: a character that its edge cuts does not count. */
function charactersOf({ bytes, start, isEnd }: Window): { valid: number; invalid: number } {
  let from = 0;
  if (start > 0) while (from < 3 && isContinuation(bytes[from])) from += 1;
  const to = isEnd ? bytes.length : bytes.length - cutBytes(bytes);
  const whole = bytes.subarray(from, to);
  if (isUtf8(whole)) return { valid: countLeads(whole), invalid: 0 };
  let valid = 0;
  let invalid = 0;
  for (let at = 0; at < whole.length; ) {
    const length = sequenceLength(whole, at);
    if (length === 0) invalid += 1;
    else if (length > 1) valid += 1;
    at += Math.max(1, length);
  }
  return { valid, invalid };
}

/** Bytes of the character that the end of the bytes cuts off. */
function cutBytes(bytes: Buffer): number {
  for (let back = 1; back <= Math.min(3, bytes.length); back++) {
    const byte = bytes[bytes.length - back] as number;
    if (isContinuation(byte)) continue;
    const needed = byte >= 0xf0 ? 4 : byte >= 0xe0 ? 3 : byte >= 0xc0 ? 2 : 1;
    return needed > back ? back : 0;
  }
  return 0;
}

function countLeads(bytes: Buffer): number {
  let leads = 0;
  for (let i = 0; i < bytes.length; i++) if ((bytes[i] as number) >= 0xc0) leads += 1;
  return leads;
}

/** Bytes of the UTF-8 character at a position (Unicode 16, table 3-7); 0: it is none. */
function sequenceLength(bytes: Buffer, at: number): number {
  const lead = bytes[at] as number;
  if (lead < 0x80) return 1;
  const length = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : 2;
  if (lead < 0xc2 || lead > 0xf4 || at + length > bytes.length) return 0;
  const second = bytes[at + 1] as number;
  if (lead === 0xe0 && second < 0xa0) return 0;
  if (lead === 0xed && second > 0x9f) return 0;
  if (lead === 0xf0 && second < 0x90) return 0;
  if (lead === 0xf4 && second > 0x8f) return 0;
  for (let i = 1; i < length; i++) if (!isContinuation(bytes[at + i])) return 0;
  return length;
}

const isContinuation = (byte = 0) => (byte & 0xc0) === 0x80;
