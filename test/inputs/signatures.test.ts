/** Files of formats that are recognised by their first bytes, each refused as text and as tokens with what it is. */
import { createHash } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { textFormat } from '../../src/data/text-format.js';
import { openTokenFile } from '../../src/data/tokens.js';
import { zipOf } from '../support/inputs.js';

const folder = mkdtempSync(join(tmpdir(), 'mod-signatures-'));
afterAll(() => rmSync(folder, { recursive: true }));

/** Bytes that are no text, the same in every run. */
function noise(count: number): Buffer {
  const parts = Array.from({ length: Math.ceil(count / 32) }, (_, i) =>
    createHash('sha256').update(`noise ${i}`).digest(),
  );
  return Buffer.concat(parts).subarray(0, count);
}

const latin1 = (text: string) => Buffer.from(text, 'latin1');
/** The bytes of these characters of Latin-1 at a position, among others. */
const at = (position: number, text: string, size = 4096) => {
  const bytes = noise(size);
  bytes[0] = 0;
  latin1(text).copy(bytes, position);
  return bytes;
};
const start = (text: string, size?: number) => Buffer.concat([latin1(text), at(0, '', size)]);
const ends = (head: string, tail: string) => Buffer.concat([start(head), latin1(tail)]);
const llmC = (magic: number) => {
  const header = new Int32Array(256);
  header.set([magic, 1, 100]);
  return Buffer.concat([new Uint8Array(header.buffer), noise(500)]);
};
const LEAVE_OUT = 'leave it out, for example with a pattern that starts with !';
const UNPACK = 'unpack it and name the files in it';
const PLAIN = 'convert it to plain text first';
const TABLE = 'convert it to Parquet or JSON Lines';
const ARRAYS = 'it contains numbers; text files or token files are needed';
const WEIGHTS = 'it contains the weights of a model; text files or token files are needed';
const OBJECTS = 'write text, JSON Lines or token shards instead';
const DATABASE = 'export its text as JSON Lines';
const OTHER = 'it contains neither text nor tokens';

const FORMATS: [name: string, advice: string, content: Buffer][] = [
  ['a ZIP archive', UNPACK, zipOf('notes.txt', 'text')],
  ['an empty ZIP archive', UNPACK, start('PK\x05\x06')],
  ['a tar archive', UNPACK, at(257, 'ustar\x0000')],
  ['a 7-Zip archive', UNPACK, start('7z\xbc\xaf\x27\x1c')],
  ['a RAR archive', UNPACK, start('Rar!\x1a\x07\x01\0')],
  ['an ar archive, such as a .deb or .a file', UNPACK, latin1('!<arch>\ndebian-binary   \n2.0\n')],
  ['a cpio archive', UNPACK, latin1(`070701${'0'.repeat(104)}name`)],
  ['a Windows cabinet', UNPACK, start('MSCF\0\0\0\0')],
  ['an RPM package', UNPACK, start('\xed\xab\xee\xdb')],
  ['an ISO 9660 disk image', UNPACK, at(32769, 'CD001', 40_000)],
  [
    'a WARC web archive',
    'extract the text of its pages first',
    latin1('WARC/1.0\r\nWARC-Type: warcinfo\r\n'),
  ],
  ['a file compressed with LZ4', 'decompress it first, with lz4 -d', start('\x04\x22\x4d\x18')],
  ['a file compressed with lzip', 'decompress it first, with lzip -d', start('LZIP\x01')],
  [
    'a file compressed with LZMA',
    'decompress it first, with xz --format=lzma -d',
    start(`\x5d\0\0\x80\0${'\xff'.repeat(8)}`),
  ],
  ['a file compressed with compress (.Z)', 'decompress it first, with uncompress', start('\x1f\x9d\x90')],
  ['a file compressed with framed Snappy', 'decompress it first, with snzip -d', start('\xff\x06\0\0sNaPpY')],
  ['an Arrow file (Feather)', TABLE, start('ARROW1\0\0')],
  ['an Arrow stream', TABLE, start('\xff\xff\xff\xff\xf8\0\0\0\x10\0\0\0')],
  ['a Feather file of version 1', TABLE, ends('FEA1', 'FEA1')],
  ['an ORC file', TABLE, ends('ORC', 'ORC\x1a')],
  ['an Avro file', TABLE, start('Obj\x01')],
  ['a Stata file', TABLE, latin1('<stata_dta><header><release>118</release>')],
  ['an SPSS file', TABLE, start('$FL2@(#) SPSS DATA FILE')],
  ['an R data file', TABLE, start('RDX3\nX\n')],
  ['TFRecord records', TABLE, start('\x0a\0\0\0\0\0\0\0\xae\xa3\xbf\x3a')],
  ['a BSON file', TABLE, start('\x16\0\0\0\x02hello\0\x06\0\0\0world\0\0')],
  ['an HDF5 file', ARRAYS, start('\x89HDF\r\n\x1a\n')],
  ['a NetCDF file', ARRAYS, start('CDF\x01')],
  ['a MATLAB file', ARRAYS, start('MATLAB 5.0 MAT-file, Platform: GLNXA64')],
  ['NumPy arrays in a ZIP archive (.npz)', ARRAYS, zipOf('arr_0.npy', '')],
  ['a Python pickle', OBJECTS, latin1('\x80\x04\x95\x0b\0\0\0\0\0\0\0}\x94\x8c\x01a\x94K\x01s.')],
  ['a Python pickle', OBJECTS, latin1("(dp0\nS'a'\np1\nI1\ns.")],
  [
    'a PyTorch file of the old format',
    'it contains pickled objects; write text, JSON Lines or token shards',
    start('\x80\x02\x8a\x0al\xfc\x9cF\xf9\x20j\xa8P\x19.\x80\x02'),
  ],
  [
    'the index of a Megatron dataset',
    'its .bin file has the tokens, without a header: name that one, with token_bytes 2 or 4',
    start('MMIDIDX\0\0\x01'),
  ],
  ['a PyTorch checkpoint', WEIGHTS, zipOf('archive/data.pkl', '')],
  ['a safetensors file', WEIGHTS, start('\x02\0\0\0\0\0\0\0{}')],
  ['a GGUF model', WEIGHTS, start('GGUF\x03\0\0\0')],
  ['a PNG image', LEAVE_OUT, start('\x89PNG\r\n\x1a\n')],
  ['a JPEG image', LEAVE_OUT, start('\xff\xd8\xff\xe0')],
  ['a GIF image', LEAVE_OUT, start('GIF89a')],
  ['a TIFF image', LEAVE_OUT, start('II*\0\x08\0\0\0')],
  ['a BMP image', LEAVE_OUT, start('BM\x0e\x10\0\0\0\0\0\0', 4100)],
  ['a WebP image', LEAVE_OUT, start('RIFF\0\x10\0\0WEBP')],
  ['a HEIC image', LEAVE_OUT, start('\0\0\0\x18ftypheic')],
  ['a Netpbm image', LEAVE_OUT, start('P6\n640 480\n255\n')],
  ['a video or audio file (MP4)', LEAVE_OUT, start('\0\0\0\x18ftypisom')],
  ['a Matroska or WebM video', LEAVE_OUT, start('\x1a\x45\xdf\xa3')],
  ['a WAV audio file', LEAVE_OUT, start('RIFF\0\x10\0\0WAVE')],
  ['an MP3 audio file', LEAVE_OUT, start('ID3\x03')],
  ['a FLAC audio file', LEAVE_OUT, start('fLaC')],
  ['an Ogg audio or video file', LEAVE_OUT, start('OggS\0')],
  [
    'a PDF document',
    'convert it to plain text first, for example with pdftotext',
    latin1('%PDF-1.7\n%\xe2\xe3\xcf\xd3'),
  ],
  [
    'a PostScript document',
    'convert it to plain text first, for example with ps2ascii',
    latin1('%!PS-Adobe-3.0\n'),
  ],
  ['an RTF document', PLAIN, latin1('{\\rtf1\\ansi text}')],
  ['an EPUB book', PLAIN, zipOf('mimetype', 'application/epub+zip')],
  ['an OpenDocument file', PLAIN, zipOf('mimetype', 'application/vnd.oasis.opendocument.text')],
  ['a Microsoft Office document', PLAIN, zipOf('[Content_Types].xml', '<x/>')],
  ['a Microsoft Office document of the old format', PLAIN, start('\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1')],
  ['a Mobipocket book', PLAIN, at(60, 'BOOKMOBI')],
  ['an SQLite database', DATABASE, start('SQLite format 3\0')],
  ['a DuckDB database', DATABASE, at(8, 'DUCK')],
  ['an LMDB database', DATABASE, at(16, '\xde\xc0\xef\xbe')],
  ['a LevelDB or RocksDB table', DATABASE, ends('\0', '\x57\xfb\x80\x8b\x24\x75\x47\xdb')],
  ['an ELF program or library', LEAVE_OUT, start('\x7fELF\x02\x01\x01')],
  ['a Mach-O program', LEAVE_OUT, start('\xcf\xfa\xed\xfe')],
  ['a WebAssembly module', LEAVE_OUT, start('\0asm\x01\0\0\0')],
  ['compiled Python', LEAVE_OUT, start('\xcb\x0d\r\n\0\0\0\0')],
  ['a Java archive', LEAVE_OUT, zipOf('META-INF/MANIFEST.MF', '')],
  ['a TrueType font', LEAVE_OUT, start('\0\x01\0\0\0\x12\x01\0\0\x04\0\x20DSIG')],
  ['a WOFF2 font', LEAVE_OUT, start('wOF2\0\x01')],
  ['an evaluation file of llm.c, such as HellaSwag or MMLU', 'name token shards', llmC(20240522)],
  ['a model checkpoint of llm.c', 'name token shards', llmC(20240326)],
  ['a tokenizer of llm.c', 'name token shards', llmC(20240328)],
  [
    'a file with a header like that of llm.c’s shards, but an unknown magic number',
    'convert its tokens to a shard of llm.c, whose magic number is 20240520 or 20240801',
    llmC(20260101),
  ],
  [
    'a pointer of Git LFS, not the file itself',
    'fetch the file with git lfs pull',
    latin1('version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 3\n'),
  ],
  ['a file encrypted by OpenSSL', 'decrypt it first', start('Salted__')],
  ['captured network packets', OTHER, start('\xd4\xc3\xb2\xa1')],
  [
    'a SentencePiece model',
    'for a tokenizer, name the tokenizer.json that save_pretrained() of transformers writes',
    latin1('\x0a\x0e\x0a\x05<unk>\x15\0\0\0\0\x18\x02'),
  ],
];

describe.each([false, true])('with unchecked: %s', (unchecked) => {
  it.each(FORMATS)('%s is refused: %s', async (name, advice, content) => {
    const path = join(folder, 'x');
    writeFileSync(path, content);
    const checks = { unchecked, option: '--unchecked', separator: null };
    await expect(textFormat(path, checks)).rejects.toThrow(`${path}: ${name}, not text: ${advice}`);
    expect(() => openTokenFile(path, 2, 65_536, unchecked)).toThrow(
      `${path}: ${name}, not token ids: ${advice}`,
    );
  });
});

it.each([
  ['BMW is a maker of cars'],
  ['MZ begins a program'],
  ['ORC and elf'],
  ['ID3 is a tree'],
  ['DUCK DUCK DUCK'],
  ['P6 is a processor'],
  ['GGUF, FLV and OTTO are names'],
  ['RIFF, PACK, wOFF, fLaC'],
  ['070701 is a number'],
  ['BZhou'],
  ['x'],
])('text that begins with letters of a signature is text: %s', async (text) => {
  const path = join(folder, 'text');
  writeFileSync(path, text);
  expect(await textFormat(path, { unchecked: false, option: '', separator: null })).toEqual({
    content: 'text',
    compression: null,
    encoding: 'utf-8',
    markBytes: 0,
  });
});
