/**
 * Reads a column of texts from a Parquet file, page by page: memory does not grow with the size of a row group, of which
 * pandas writes one per million rows. Pages are decoded by hyparquet.
 */
import { closeSync, fstatSync, openSync, readSync } from 'node:fs';
import { brotliDecompressSync, crc32, gunzipSync } from 'node:zlib';
import type { FileMetaData } from 'hyparquet';
import { ZSTDDecoder } from 'zstddec';
import { InputError, messageOf } from '../errors.js';
import { unpackLz4Block } from './lz4.js';
import type { Slice } from './unpack.js';

/** A row's text; null if it has none. */
export interface ParquetRow {
  text: string | null;
  /** Of the row in the file, from 0. */
  row: number;
}

type ColumnPages = typeof import('hyparquet/src/column.js');
type Decoder = Parameters<ColumnPages['readPage']>[2];
type Header = ReturnType<ColumnPages['parquetHeader']>;
type RowGroup = FileMetaData['row_groups'][number];

/** Bytes that a page's header is first looked for in; it may contain the smallest and the largest text. */
const HEADER_BYTES = 2 ** 12;
const LONGEST_HEADER = 2 ** 26;

/**
 * The texts of the row groups that begin in a slice of a file.
 *
 * @param column its name; of the top level, with texts
 * @param onRead called with the number of file bytes of each row group
 * @throws InputError for a damaged file, or one without this column of texts
 */
export async function* parquetRows(
  { path, start, end }: Slice,
  column: string,
  onRead: (bytes: number) => void,
): AsyncGenerator<ParquetRow> {
  const file = openSync(path, 'r');
  try {
    const metadata = await metadataOf(path, file);
    checkColumn(path, metadata, column);
    let row = 0;
    for (const group of metadata.row_groups) {
      const rows = Number(group.num_rows);
      const { begin, bytes } = extentOf(group);
      if (rows > 0 && begin >= start && (end === null || begin < end)) {
        let at = row;
        for await (const texts of pagesOf(file, metadata, group, column)) {
          for (let i = 0; i < texts.length; i++) {
            const text = texts[i] as unknown;
            yield { text: typeof text === 'string' ? text : null, row: at++ };
          }
        }
        if (at !== row + rows) throw new Error(`row group of ${rows} rows has ${at - row}`);
        onRead(bytes);
      }
      row += rows;
    }
  } catch (error) {
    if (error instanceof InputError) throw error;
    throw new InputError(`${path}: damaged Parquet, or of a kind that is not read: ${messageOf(error)}`);
  } finally {
    closeSync(file);
  }
}

async function metadataOf(path: string, file: number): Promise<FileMetaData> {
  const { parquetMetadataAsync } = await import('hyparquet');
  const byteLength = fstatSync(file).size;
  const slice = (from: number, to = byteLength) =>
    Promise.resolve(readAt(file, from, to - from).buffer as ArrayBuffer);
  try {
    return await parquetMetadataAsync({ byteLength, slice }, { geoparquet: false });
  } catch (error) {
    throw new InputError(`${path}: damaged Parquet: its metadata cannot be read: ${messageOf(error)}`);
  }
}

function checkColumn(path: string, { schema }: FileMetaData, column: string): void {
  const columns = topLevel(schema);
  const isText = ({
    type,
    num_children,
    repetition_type,
    converted_type,
    logical_type,
  }: (typeof schema)[number]) =>
    type === 'BYTE_ARRAY' &&
    num_children === undefined &&
    repetition_type !== 'REPEATED' &&
    (converted_type === undefined || converted_type === 'UTF8' || logical_type?.type === 'STRING');
  const found = columns.find(({ name }) => name === column);
  if (found !== undefined && isText(found)) return;
  const texts = columns.filter(isText).map(({ name }) => name);
  const others =
    texts.length === 0 ? 'no column is text' : `text is in ${texts.join(', ')}; name it with --field`;
  throw new InputError(
    `${path}: ${found === undefined ? `has no column '${column}'` : `the column '${column}' is not text`}: ${others}`,
  );
}

/** The columns of a schema, which lists its tree in depth-first order, the root first. */
function topLevel(schema: FileMetaData['schema']): FileMetaData['schema'] {
  const columns: FileMetaData['schema'] = [];
  const after = (at: number): number => {
    let next = at + 1;
    for (let i = 0; i < (schema[at]?.num_children ?? 0); i++) next = after(next);
    return next;
  };
  for (let at = 1; at < schema.length; at = after(at)) columns.push(schema[at] as (typeof schema)[number]);
  return columns;
}

/** Where a row group begins, and the bytes of its columns. */
function extentOf({ columns }: RowGroup): { begin: number; bytes: number } {
  const starts = columns.map((column) => chunkStart(column));
  const bytes = columns.reduce(
    (sum, { meta_data }) => sum + Number(meta_data?.total_compressed_size ?? 0),
    0,
  );
  return { begin: Math.min(...starts), bytes };
}

function chunkStart({ meta_data }: RowGroup['columns'][number]): number {
  const { dictionary_page_offset, data_page_offset = 0n } = meta_data ?? {};
  // Some writers store 0 if there is no dictionary.
  const hasDictionary = dictionary_page_offset !== undefined && dictionary_page_offset > 0n;
  return Number(
    hasDictionary && dictionary_page_offset < data_page_offset ? dictionary_page_offset : data_page_offset,
  );
}

/** The values of each page of a column in a row group. */
async function* pagesOf(
  file: number,
  metadata: FileMetaData,
  group: RowGroup,
  column: string,
): AsyncGenerator<ArrayLike<unknown>> {
  const [{ parquetHeader, readPage }, { convert, DEFAULT_PARSERS }, { parquetSchema }, { getTreePath }] =
    await Promise.all([
      import('hyparquet/src/column.js'),
      import('hyparquet/src/convert.js'),
      import('hyparquet'),
      import('hyparquet/src/schema.js'),
    ]);
  const chunk = group.columns.find(({ meta_data }) => meta_data?.path_in_schema.join('.') === column);
  if (chunk?.meta_data === undefined) throw new Error('a row group lacks the column');
  const { meta_data } = chunk;
  const schemaPath = getTreePath(parquetSchema(metadata), [column]);
  const element = (schemaPath.at(-1) as (typeof schemaPath)[number]).element;
  const compressors = await compressorsFor(meta_data.codec);
  const decoder: Decoder = {
    ...meta_data,
    pathInSchema: [column],
    element,
    schemaPath,
    parsers: DEFAULT_PARSERS,
    compressors,
  };
  let at = chunkStart(chunk);
  const end = at + Number(meta_data.total_compressed_size);
  let dictionary: ReturnType<typeof convert> | undefined;
  while (at < end) {
    const { header, bytes } = headerAt(parquetHeader, file, at, end);
    const page = readAt(file, at + bytes, header.compressed_page_size);
    at += bytes + header.compressed_page_size;
    if (header.crc !== undefined && crc32(page) !== header.crc >>> 0)
      throw new Error('the checksum of a page differs');
    const reader = { view: new DataView(page.buffer, page.byteOffset, page.byteLength), offset: 0 };
    const { data } = readPage(reader, header, decoder, dictionary, undefined, 0);
    if (data === undefined) continue;
    if (header.type === 'DICTIONARY_PAGE') dictionary = convert(data, decoder);
    else yield data;
  }
}

/** A page's header and its length: more bytes are read until it is complete. */
function headerAt(
  parse: ColumnPages['parquetHeader'],
  file: number,
  at: number,
  end: number,
): { header: Header; bytes: number } {
  for (let size = HEADER_BYTES; ; size *= 4) {
    const bytes = readAt(file, at, Math.min(size, end - at));
    const reader = { view: new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength), offset: 0 };
    try {
      return { header: parse(reader), bytes: reader.offset };
    } catch (error) {
      if (size >= Math.min(end - at, LONGEST_HEADER)) throw error;
    }
  }
}

/** hyparquet itself has Snappy. The old LZ4 has frames of Hadoop, which Parquet deprecates. */
async function compressorsFor(codec: string): Promise<NonNullable<Decoder['compressors']>> {
  if (codec === 'LZ4' || codec === 'LZO')
    throw new Error(`its compression ${codec} is deprecated: write it with zstd`);
  const zstd = new ZSTDDecoder();
  if (codec === 'ZSTD') await zstd.init();
  return {
    GZIP: (bytes) => gunzipSync(bytes),
    BROTLI: (bytes) => brotliDecompressSync(bytes),
    ZSTD: (bytes, length) => zstd.decode(bytes, length),
    LZ4_RAW: unpackLz4Block,
  };
}

/** Bytes of their own memory, exactly as many. */
function readAt(file: number, start: number, length: number): Uint8Array {
  if (length < 0) throw new Error('it ends early');
  const bytes = new Uint8Array(length);
  for (let done = 0; done < length; ) {
    const read = readSync(file, bytes, done, length - done, start + done);
    if (read === 0) throw new Error('it ends early');
    done += read;
  }
  return bytes;
}
