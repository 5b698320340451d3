/** How a file is read as text: its compression, content and encoding, by what it contains; other files are refused. */
import { InputError } from '../errors.js';
import { isUtf8Text, statisticsOf } from '../files/byte-statistics.js';
import { CATEGORIES } from '../files/formats.js';
import {
  adviceOf,
  type Identity,
  identify,
  nameOfFormat,
  type Sample,
  sampleOf,
  sampleOfBytes,
  type TextEncoding,
} from '../files/identify.js';
import { decodedText } from './encodings.js';
import { hasJsonLines, isJsonDocument, isNamedJsonLines } from './json-lines.js';
import type { Pipe } from './pipes.js';
import { type Compression, firstUnpacked, isCompression } from './unpack.js';

export interface TextFormat {
  content: 'text' | 'jsonl' | 'parquet';
  compression: Compression | null;
  encoding: TextEncoding;
  /** Bytes of the byte order mark at the start. */
  markBytes: number;
}

export interface TextChecks {
  /** Reads what statistics alone reject, as UTF-8 text, or JSON Lines if its name says so. */
  unchecked: boolean;
  /** The option that sets `unchecked`, for messages. */
  option: string;
  /** Separator of the documents of a text file; null: none. */
  separator: string | null;
}

/** Decompressed bytes that are looked at. */
const PEEK_BYTES = 2 ** 18;
const MOST_PROBLEMS = 10;

/**
 * Identifies a file, or a pipe by its first bytes, to be read as text.
 *
 * @throws InputError for a file that is damaged, or neither text nor JSON Lines: what it is instead and what to do
 */
export async function textFormat(path: string, checks: TextChecks, pipe?: Pipe): Promise<TextFormat> {
  const outer = pipe === undefined ? sampleOf(path) : sampleOfBytes(Buffer.from(pipe.head), pipe.isEnd);
  const identity = identify(outer);
  const compression =
    identity.type === 'format' && isCompression(identity.format.id) ? identity.format.id : null;
  if (pipe !== undefined && identity.type === 'format' && identity.format.id === 'parquet') {
    throw new InputError(`${path}: a Parquet file, which cannot be read from a pipe: name the file`);
  }
  if (compression === null) return contentOf(path, outer, identity, null, checks);
  const slice = { path, start: 0, end: null, ...(pipe === undefined ? {} : { pipe }) };
  const { bytes, isEnd } = await firstUnpacked(slice, compression, PEEK_BYTES);
  const sample = sampleOfBytes(bytes, isEnd);
  return contentOf(path, sample, identify(sample), compression, checks);
}

/** Identifies files and pipes; all that are refused are listed, up to ten. @throws InputError as textFormat does */
export async function textFormats(
  files: readonly { path: string; pipe?: Pipe }[],
  checks: TextChecks,
): Promise<TextFormat[]> {
  const formats: TextFormat[] = [];
  const problems: string[] = [];
  for (const { path, pipe } of files) {
    try {
      formats.push(await textFormat(path, checks, pipe));
    } catch (error) {
      if (!(error instanceof InputError)) throw error;
      problems.push(error.message);
    }
  }
  if (problems.length === 0) return formats;
  const more = problems.length - MOST_PROBLEMS;
  const rest = more > 0 ? [`and ${more} more`] : [];
  throw new InputError([...problems.slice(0, MOST_PROBLEMS), ...rest].join('\n'));
}

function contentOf(
  path: string,
  sample: Sample,
  identity: Identity,
  compression: Compression | null,
  checks: TextChecks,
): TextFormat {
  const plain: TextFormat = { content: 'text', compression, encoding: 'utf-8', markBytes: 0 };
  const within = compression === null ? '' : ` in ${compression}`;
  switch (identity.type) {
    case 'empty':
      return plain;
    case 'text': {
      const { encoding, markBytes } = identity;
      return { ...plain, encoding, markBytes, content: contentOfText(path, sample, identity, checks) };
    }
    case 'format': {
      const { format } = identity;
      if (format.id === 'parquet' && compression === null) return { ...plain, content: 'parquet' };
      const isReadable = compression !== null && format.id !== undefined;
      const tokens = format.id === 'shard' ? 'its tokens are ready: name it in data.train' : null;
      const advice = isReadable ? CATEGORIES.compressed : (tokens ?? adviceOf(format));
      throw new InputError(`${path}: ${nameOfFormat(format)}${within}, not text: ${advice}`);
    }
    case 'guess': {
      const statistics = statisticsOf(sample.windows);
      const isSeparated = checks.separator?.includes('\0') && isUtf8Text({ ...statistics, nuls: 0 });
      if (isSeparated || checks.unchecked)
        return { ...plain, content: isNamedJsonLines(path) ? 'jsonl' : 'text' };
      const { name, advice } = identity.guess;
      throw new InputError(
        `${path}: looks like ${name}${within}, not like UTF-8 text: ${advice}; ${checks.option} reads it as it is`,
      );
    }
    default:
      return identity satisfies never;
  }
}

function contentOfText(
  path: string,
  { windows: [head] }: Sample,
  { encoding, markBytes }: Extract<Identity, { type: 'text' }>,
  { unchecked, option }: TextChecks,
): TextFormat['content'] {
  const text = decodedText((head?.bytes ?? Buffer.alloc(0)).subarray(markBytes), encoding);
  if (!unchecked && hasJsonLines(text, head?.isEnd ?? true)) return 'jsonl';
  if (!isNamedJsonLines(path)) return 'text';
  if (!isJsonDocument(text)) return 'jsonl'; // its damaged lines are reported
  if (unchecked) return 'text';
  throw new InputError(
    `${path}: a JSON document, not JSON Lines: put every object on a line of its own, for example with jq -c '.[]'; ${option} reads it as text`,
  );
}
