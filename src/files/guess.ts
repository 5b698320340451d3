/** What the statistics of a file's bytes suggest that it is, where no first bytes name it. */
import { entropyOf, isNearlyUtf8, type Statistics, type Window } from './byte-statistics.js';

/** Bytes of a token id, little-endian. */
export const TOKEN_WIDTHS = [1, 2, 4, 8] as const;
export type TokenWidth = (typeof TOKEN_WIDTHS)[number];

export interface TokenLayout {
  bytes: TokenWidth;
  bigEndian: boolean;
}

export interface Guess {
  /** With its article: `UTF-16 text without a byte order mark`. */
  name: string;
  advice: string;
}

/** Fewer bytes give no layout of numbers. */
const FEWEST_BYTES = 64;
/** Fewer bytes give no distribution. */
const ENOUGH_BYTES = 4096;
/** Total variation distance between the values of even and odd bytes from which they are halves of larger numbers. */
const DIFFERENT = 0.25;
/** Bits per byte from which a file is compressed or encrypted; text has up to 6, token ids up to 7.5. */
const COMPRESSED_ENTROPY = 7.75;

/**
 * How many bytes the ids of a file of bare tokens have: upper bytes are 0 or small, and the bytes of an id have different
 * distributions. Null if the statistics do not tell.
 */
export function tokenLayout({ bytes, lanes }: Statistics): TokenLayout | null {
  if (bytes < FEWEST_BYTES) return null;
  const share = lanes.map((lane) => {
    const total = lane.reduce((sum, count) => sum + count, 0);
    const below = (limit: number) => lane.subarray(0, limit).reduce((sum, count) => sum + count, 0) / total;
    return { zero: below(1), small: below(16) };
  });
  const isZero = (...at: number[]) => at.every((i) => (share[i]?.zero ?? 0) >= 0.999);
  const isSmall = (...at: number[]) => at.every((i) => (share[i]?.small ?? 0) >= 0.999);
  if (!isZero(0) && isZero(3, 4, 5, 6, 7) && isSmall(2)) return { bytes: 8, bigEndian: false };
  if (!isZero(7) && isZero(4, 3, 2, 1, 0) && isSmall(5)) return { bytes: 8, bigEndian: true };
  if (!isZero(0) && !isZero(4) && isZero(3, 7) && isSmall(2, 6) && !isSmall(0, 4)) {
    // Ids of two bytes below 256 have zeros at 1, 3, 5 and 7, but not at 2 and 6.
    return { bytes: 4, bigEndian: false };
  }
  if (!isZero(3) && !isZero(7) && isZero(0, 4) && isSmall(1, 5) && !isSmall(3, 7)) {
    return { bytes: 4, bigEndian: true };
  }
  if (isZero(1, 3, 5, 7) && !isZero(0) && !isZero(2)) return { bytes: 2, bigEndian: false };
  if (isZero(0, 2, 4, 6) && !isZero(1) && !isZero(3)) return { bytes: 2, bigEndian: true };
  if (bytes < ENOUGH_BYTES) return null;
  const even = sumOf(lanes, [0, 2, 4, 6]);
  const odd = sumOf(lanes, [1, 3, 5, 7]);
  if (distance(even, odd) < DIFFERENT) return { bytes: 1, bigEndian: false };
  // The bytes of floating-point numbers differ among four lanes.
  const isPair = ([a, b]: [number, number]) =>
    distance(sumOf(lanes, [a, a + 4]), sumOf(lanes, [b, b + 4])) < DIFFERENT;
  if (!isPair([0, 2]) || !isPair([1, 3])) return null;
  const total = bytes / 2;
  const evenIsUpper =
    entropyOf({ histogram: even, bytes: total }) < entropyOf({ histogram: odd, bytes: total });
  return { bytes: 2, bigEndian: evenIsUpper };
}

/** What a file is that is not printable UTF-8 text. */
export function guessBinary(windows: readonly Window[], statistics: Statistics): Guess {
  const wide = wideEncoding(windows);
  if (wide !== null) return text(wide, 'without a byte order mark');
  const layout = statistics.nuls > 0 ? tokenLayout(statistics) : null;
  if (layout !== null && layout.bytes > 1) {
    const { bytes, bigEndian } = layout;
    return {
      name: `numbers of ${bytes} bytes${bigEndian ? ', big-endian' : ''}, such as token ids`,
      advice: bigEndian
        ? 'write them little-endian and name the file in data.train'
        : `name the file in data.train with token_bytes: ${bytes}`,
    };
  }
  if (isNearlyUtf8(statistics)) {
    return {
      name: 'text with NUL bytes',
      advice:
        'if they are the separators of documents, divide it with mod data prepare --separator "\\0"; otherwise remove them',
    };
  }
  const head = (windows[0] as Window).bytes;
  if (isZlib(head)) return compressed('a zlib stream');
  const packed = packedMap(head);
  if (packed !== null) return { name: packed, advice: 'convert it to Parquet or JSON Lines' };
  if (statistics.bytes >= 1024 && entropyOf(statistics) >= entropyLimit(statistics.bytes)) {
    return compressed('compressed or encrypted data, such as Brotli, raw LZ4 or raw deflate');
  }
  if (isEbcdic(statistics)) return text('IBM1047', 'an EBCDIC encoding', 'EBCDIC text');
  if (statistics.nuls === 0 && statistics.controls <= 0.02 * statistics.bytes) {
    return legacyEncoding(windows, statistics);
  }
  return { name: 'binary data', advice: 'name files of text, JSON Lines or Parquet' };
}

/** ISO-2022-JP is written in ASCII: its escape sequences tell it from text. */
export function guessEscapes(head: Buffer): Guess | null {
  const start = head.toString('latin1');
  const has = (...codes: string[]) => codes.some((code) => start.includes(`\x1b${code}`));
  return has('$@', '$B') && has('(B', '(J') ? text('ISO-2022-JP', '') : null;
}

function text(encoding: string, how: string, name = `${encoding} text`): Guess {
  return {
    name: how === '' || name !== `${encoding} text` ? name : `${name} ${how}`,
    advice: `convert it to UTF-8, for example with iconv -f ${encoding} -t UTF-8`,
  };
}

function compressed(name: string): Guess {
  return { name, advice: 'decompress it first' };
}

/** A sample of n random bytes has a slightly lower entropy than 8: about 255 / (2 n ln 2) bits. */
function entropyLimit(bytes: number): number {
  return COMPRESSED_ENTROPY - 255 / (2 * bytes * Math.LN2);
}

const WIDE = { 'utf-32le': 4, 'utf-32be': 4, 'utf-16le': 2, 'utf-16be': 2 } as const;
/** Bytes of a window that are looked at as characters. */
const WIDE_BYTES = 4096;

/** Whether bytes in an encoding of two or four bytes a character have few control characters. */
export function hasFewControls(bytes: Buffer, encoding: keyof typeof WIDE): boolean {
  const units = unitsOf(bytes.subarray(0, WIDE_BYTES), WIDE[encoding], encoding.endsWith('be'));
  return units.filter(isControl).length <= MAX_CONTROLS * units.length;
}

/** The encoding of two or four bytes a character in which the bytes are plausible text; null if there is none. */
function wideEncoding(windows: readonly Window[]): string | null {
  for (const [encoding, unit] of Object.entries(WIDE)) {
    const units = windows.flatMap(({ bytes }) =>
      unitsOf(bytes.subarray(0, WIDE_BYTES), unit, encoding.endsWith('be')),
    );
    if (units.length >= 2 && isPlausible(units)) return encoding.toUpperCase();
  }
  return null;
}

function unitsOf(bytes: Buffer, unit: 2 | 4, bigEndian: boolean): number[] {
  return Array.from({ length: Math.floor(bytes.length / unit) }, (_, i) =>
    bigEndian ? bytes.readUIntBE(i * unit, unit) : bytes.readUIntLE(i * unit, unit),
  );
}

/** Ranges of Unicode that a text has most of its letters in; ASCII and punctuation are common to all. */
const SCRIPTS: readonly (readonly [first: number, last: number])[] = [
  [0x80, 0x24f], // Latin
  [0x370, 0x3ff], // Greek
  [0x400, 0x52f], // Cyrillic
  [0x530, 0x6ff], // Armenian, Hebrew, Arabic
  [0x900, 0xdff], // India
  [0xe00, 0x10ff], // South-East Asia, Georgian
  [0x3000, 0x9fff], // Japanese, Chinese
  [0xac00, 0xd7a3], // Korean
];

/** Share of control characters among code units up to which they may be text. */
const MAX_CONTROLS = 0.005;
/** Between words or sentences of any script. */
const SPACES = new Set([0x0a, 0x20, 0x3000, 0x3001, 0x3002, 0xff0c]);

const isAscii = (unit: number) => unit === 9 || unit === 10 || unit === 13 || (unit >= 0x20 && unit < 0x7f);
const isControl = (unit: number) => unit < 0xa0 && !isAscii(unit);

/**
 * Whether code units are text: few control characters; spaces, or mostly ASCII; 95% in ASCII, punctuation and one script.
 * Pairs of ASCII or Shift JIS characters would be Chinese characters, but without spaces.
 */
function isPlausible(units: readonly number[]): boolean {
  let [controls, spaces, ascii, common] = [0, 0, 0, 0];
  const scripts = SCRIPTS.map(() => 0);
  for (const unit of units) {
    if (SPACES.has(unit)) spaces += 1;
    if (isAscii(unit)) ascii += 1;
    else if (isControl(unit)) controls += 1;
    else if ((unit >= 0x2000 && unit <= 0x206f) || (unit >= 0xff00 && unit <= 0xffef)) common += 1;
    else if (unit >= 0xd800 && unit <= 0xdfff)
      common += 1; // half of a pair
    else {
      const script = SCRIPTS.findIndex(([first, last]) => unit >= first && unit <= last);
      if (script !== -1) scripts[script] = (scripts[script] as number) + 1;
    }
  }
  const { length } = units;
  const most = Math.max(...scripts);
  const hasWords = spaces >= 0.01 * length || ascii >= 0.5 * length;
  return controls <= MAX_CONTROLS * length && hasWords && ascii + common + most >= 0.95 * length;
}

function sumOf(lanes: readonly Uint32Array[], which: readonly number[]): Uint32Array {
  return Uint32Array.from({ length: 256 }, (_, byte) =>
    which.reduce((sum, lane) => sum + ((lanes[lane] as Uint32Array)[byte] as number), 0),
  );
}

/** The total variation distance of two histograms: 0 equal, 1 disjoint. */
function distance(a: Uint32Array, b: Uint32Array): number {
  const total = (counts: Uint32Array) =>
    Math.max(
      1,
      counts.reduce((sum, count) => sum + count, 0),
    );
  const [ofA, ofB] = [total(a), total(b)];
  return a.reduce((sum, count, i) => sum + Math.abs(count / ofA - (b[i] as number) / ofB), 0) / 2;
}

/** The two bytes of RFC 1950: deflate, a window of up to 32 KiB, a checksum of 5 bits; no dictionary. */
function isZlib(head: Buffer): boolean {
  if (head.length < 6) return false;
  const [method, flags] = [head[0] as number, head[1] as number];
  return (method === 0x78 || method === 0x58) && (method * 256 + flags) % 31 === 0 && (flags & 0x20) === 0;
}

/** A map with a string as its first key: MessagePack, or CBOR. */
function packedMap(head: Buffer): string | null {
  const [map = 0, key = 0] = head;
  const isKey = (length: number) => /^[A-Za-z_][\w .-]*$/.test(head.toString('latin1', 2, 2 + length));
  if (map >= 0x81 && map <= 0x8f && key >= 0xa1 && key <= 0xbf && isKey(key - 0xa0))
    return 'MessagePack data';
  if (map >= 0xa1 && map <= 0xb7 && key >= 0x61 && key <= 0x77 && isKey(key - 0x60)) return 'CBOR data';
  return null;
}

/** Spaces are 0x40, the lower-case letters lie between 0x81 and 0xa9. */
function isEbcdic({ histogram, bytes }: Statistics): boolean {
  const share = (from: number, to: number) =>
    histogram.subarray(from, to + 1).reduce((sum, count) => sum + count, 0) / bytes;
  return share(0x40, 0x40) > 0.05 && share(0x81, 0xa9) > 0.4 && share(0x61, 0x7a) < 0.05;
}

interface Legacy {
  /** Of TextDecoder. */
  label: string;
  /** Of iconv. */
  encoding: string;
  /** The characters that most of a text beyond ASCII consists of, and their least share. */
  letters: RegExp;
  share: number;
}

/** Encodings of two bytes a character: most bytes that are not such text cannot be decoded. */
const LEGACY: readonly Legacy[] = [
  { label: 'euc-jp', encoding: 'EUC-JP', letters: /[\u3040-\u30ff]/g, share: 0.25 },
  { label: 'shift_jis', encoding: 'SHIFT_JIS', letters: /[\u3040-\u30ff]/g, share: 0.25 },
  { label: 'euc-kr', encoding: 'EUC-KR', letters: /[\uac00-\ud7a3]/g, share: 0.6 },
  {
    label: 'gb18030',
    encoding: 'GB18030',
    letters: /[的一是不了在有人我他这中大来上国和到们地个]/g,
    share: 0.05,
  },
  { label: 'big5', encoding: 'BIG5', letters: /[的一是不了在有人我他這中大來上國和到們地個]/g, share: 0.05 },
];

function legacyEncoding(windows: readonly Window[], { histogram, bytes }: Statistics): Guess {
  for (const { label, encoding, letters, share } of LEGACY) {
    const decoder = new TextDecoder(label);
    const decoded = windows.map((window) => decoder.decode(window.bytes)).join('');
    const wide = decoded.match(/[^\0-\x7f]/g)?.length ?? 0;
    const wrong = decoded.match(/\ufffd/g)?.length ?? 0;
    const isFew = wrong <= 2 * windows.length - 2 + 0.001 * wide; // the edges of windows cut characters
    if (isFew && (decoded.match(letters)?.length ?? 0) >= share * wide) return text(encoding, '');
  }
  const high = histogram.subarray(0xc0).reduce((sum, count) => sum + count, 0) / bytes;
  if (high > 0.3) {
    return {
      name: 'text that is not UTF-8, in an alphabet such as Cyrillic or Greek',
      advice: 'convert it to UTF-8, for example with iconv -f KOI8-R or -f WINDOWS-1251 -t UTF-8',
    };
  }
  return text('ISO-8859-1', '', 'text that is not UTF-8, such as Latin-1 or Windows-1252');
}
