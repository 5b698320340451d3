/** The formats that the first bytes of a file name: a row for each, in categories that share the advice to a user. */
import {
  type Ends,
  endsWith,
  has,
  isBson,
  isBzip2,
  isLlmC,
  isLzma,
  isMp3,
  isPickle,
  isSafetensors,
  isSentencePiece,
  isSkippedZstd,
  isTfRecord,
  u32,
  zipEntry,
  zipMimetype,
} from './signature-checks.js';

/** What kind of content a format has. */
export const CATEGORIES = {
  archive: 'unpack it and name the files in it',
  compressed: 'decompress it first',
  table: 'convert it to Parquet or JSON Lines',
  arrays: 'it contains numbers; text files or token files are needed',
  weights: 'it contains the weights of a model; text files or token files are needed',
  tokenizer: 'for a tokenizer, name the tokenizer.json that save_pretrained() of transformers writes',
  image: 'leave it out, for example with a pattern that starts with !',
  media: 'leave it out, for example with a pattern that starts with !',
  program: 'leave it out, for example with a pattern that starts with !',
  font: 'leave it out, for example with a pattern that starts with !',
  document: 'convert it to plain text first',
  database: 'export its text as JSON Lines',
  tokens: 'convert its tokens to a shard of llm.c, whose magic number is 20240520 or 20240801',
  pointer: 'fetch the file that it stands for',
  encrypted: 'decrypt it first',
  other: 'it contains neither text nor tokens',
} as const;

export type Category = keyof typeof CATEGORIES;

/** The formats that this program reads; each other format is only recognised. */
export type ReadableFormat = 'gzip' | 'zstd' | 'xz' | 'bzip2' | 'parquet' | 'npy' | 'shard' | 'safetensors';

export interface Format {
  /** With its article: `a PNG image`. */
  name: string;
  category: Category;
  /** What to do, if it is more specific than the advice of the category. */
  advice?: string;
  id?: ReadableFormat;
}

interface Signature extends Format {
  /** Bytes as characters of Latin-1. `head` may hold them at any of these positions, by default 0. */
  magic: string;
  at?: readonly number[];
  /** A further condition, for bytes that other files begin with as well. */
  confirm?: (ends: Ends) => boolean;
  /** Whether a file of this format may consist of printable text; the magic of the others counts only in a binary file. */
  isText?: true;
}

type Row = [name: string, magic: string, more?: Omit<Signature, 'name' | 'magic' | 'category'>];

/** The characters of a little-endian number. */
const int32 = (value: number) => Buffer.from(Int32Array.of(value).buffer).toString('latin1');

/** The first row that matches counts: formats within a ZIP archive come before the archive. */
const ROWS: Record<Category, readonly Row[]> = {
  tokens: [
    ['a token shard of llm.c', int32(20240520), { id: 'shard' }],
    ['a token shard of llm.c', int32(20240801), { id: 'shard' }],
    [
      'an evaluation file of llm.c, such as HellaSwag or MMLU',
      int32(20240522),
      { advice: 'name token shards' },
    ],
    ['a model checkpoint of llm.c', int32(20240326), { advice: 'name token shards' }],
    ['a debug state of llm.c', int32(20240327), { advice: 'name token shards' }],
    ['a tokenizer of llm.c', int32(20240328), { advice: 'name token shards' }],
    [
      'a file with a header like that of llm.c’s shards, but an unknown magic number',
      '',
      { confirm: ({ head }) => isLlmC(head) },
    ],
    ['a LitGPT packed dataset', 'LITPKDS'],
  ],
  pointer: [
    [
      'a pointer of Git LFS, not the file itself',
      'version https://git-lfs',
      { isText: true, advice: 'fetch the file with git lfs pull' },
    ],
    [
      'a pointer of git-annex, not the file itself',
      '/annex/objects/',
      { isText: true, advice: 'fetch the file with git annex get' },
    ],
  ],
  table: [
    [
      'a Parquet file',
      'PAR1',
      { id: 'parquet', confirm: (ends) => ends.tail.length === 0 || endsWith('PAR1')(ends) },
    ],
    ['a Parquet file that ends early', 'PAR1\x15', { advice: 'copy it again' }],
    ['an encrypted Parquet file', 'PARE', { confirm: endsWith('PARE') }],
    ['an Arrow file (Feather)', 'ARROW1\0\0'],
    [
      'an Arrow stream',
      '\xff\xff\xff\xff',
      {
        confirm: ({ head, size }) =>
          u32(head, 4) > 0 &&
          u32(head, 4) % 8 === 0 &&
          u32(head, 4) < Math.min(size, 2 ** 24) &&
          u32(head, 8) < 256,
      },
    ],
    ['a Feather file of version 1', 'FEA1', { confirm: endsWith('FEA1') }],
    ['an ORC file', 'ORC', { confirm: ({ tail }) => has(tail, 'ORC', tail.length - 4) }],
    ['an Avro file', 'Obj\x01'],
    ['a Stata file', '<stata_dta>', { isText: true }],
    ['an SPSS file', '$FL2@(#)'],
    ['a SAS file', '\xc2\xea\x81\x60\xb3\x14\x11\xcf', { at: [12] }],
    ['an R data file', 'RDX2\n', { confirm: ({ head }) => /[XAB]/.test(String.fromCharCode(head[5] ?? 0)) }],
    ['an R data file', 'RDX3\n', { confirm: ({ head }) => /[XAB]/.test(String.fromCharCode(head[5] ?? 0)) }],
    ['an R object (RDS)', 'X\n\0\0\0'],
    ['a Lance file', '', { confirm: endsWith('LANC') }],
    ['TFRecord records', '', { confirm: ({ head }) => isTfRecord(head) }],
    ['a RecordIO file', '\x0a\x23\xd7\xce'],
    ['a BSON file', '', { confirm: ({ head, size }) => isBson(head, size) }],
    ['a CBOR file', '\xd9\xd9\xf7'],
  ],
  arrays: [
    [
      'NumPy arrays in a ZIP archive (.npz)',
      'PK\x03\x04',
      { confirm: ({ head }) => /\.npy$/.test(zipEntry(head)) },
    ],
    [
      'a NumPy array (.npy)',
      '\x93NUMPY',
      { id: 'npy', advice: 'if it contains token ids, name it in data.train' },
    ],
    ['an HDF5 file', '\x89HDF\r\n\x1a\n', { at: [0, 512, 1024, 2048] }],
    ['a NetCDF file', 'CDF\x01'],
    ['a NetCDF file', 'CDF\x02'],
    ['a NetCDF file', 'CDF\x05'],
    ['a MATLAB file', 'MATLAB 5.0 MAT-file', { isText: true }],
    ['a FITS file', 'SIMPLE  =', { isText: true, confirm: ({ head }) => head[29] === 0x54 }],
    [
      'a PyTorch file of the old format',
      '\x80\x02\x8a\x0al\xfc\x9cF\xf9\x20j\xa8P\x19.',
      { advice: 'it contains pickled objects; write text, JSON Lines or token shards' },
    ],
    [
      'a Python pickle',
      '\x80',
      { advice: 'write text, JSON Lines or token shards instead', confirm: isPickle },
    ],
    [
      'a Python pickle',
      '(',
      {
        isText: true,
        advice: 'write text, JSON Lines or token shards instead',
        confirm: ({ head, tail }) =>
          /^\([dl]p\d+\n/.test(head.toString('latin1', 0, 16)) && tail.at(-1) === 0x2e,
      },
    ],
    [
      'the index of a Megatron dataset',
      'MMIDIDX\0\0',
      { advice: 'its .bin file has the tokens, without a header: name that one, with token_bytes 2 or 4' },
    ],
    [
      'the index of a fairseq dataset',
      'TNTIDX\0\0',
      { advice: 'its .bin file has the tokens, without a header: name that one, with token_bytes 2 or 4' },
    ],
  ],
  weights: [
    [
      'a PyTorch checkpoint',
      'PK\x03\x04',
      {
        confirm: ({ head }) =>
          /^[^/]+\/(data\.pkl|byteorder|version|\.format_version|\.data)/.test(zipEntry(head)),
      },
    ],
    ['a safetensors file', '', { id: 'safetensors', confirm: ({ head, size }) => isSafetensors(head, size) }],
    ['a GGUF model', 'GGUF', { confirm: ({ head }) => u32(head, 4) > 0 && u32(head, 4) < 100 }],
    ['a GGML model', 'lmgg'],
    ['a GGML model', 'tjgg'],
    ['a GGML model', 'fmgg'],
    ['a TensorFlow Lite model', 'TFL3', { at: [4] }],
    [
      'an ONNX model',
      '\x08',
      {
        confirm: ({ head }) =>
          (head[1] ?? 0) < 16 &&
          head[2] === 0x12 &&
          /^(pytorch|onnx|tf2onnx|skl2onnx|paddle)/i.test(head.toString('latin1', 4, 20)),
      },
    ],
  ],
  tokenizer: [
    ['a SentencePiece model', '\x0a', { confirm: ({ head }) => isSentencePiece(head) }],
    [
      'a rank file of tiktoken',
      '',
      {
        isText: true,
        confirm: ({ head }) => /^[\w+/]+=* 0\n[\w+/]+=* 1\n/.test(head.toString('latin1', 0, 256)),
      },
    ],
    ['a list of merges (merges.txt)', '#version: 0.', { isText: true }],
  ],
  document: [
    ['an EPUB book', 'PK\x03\x04', { confirm: ({ head }) => zipMimetype(head) === 'application/epub+zip' }],
    [
      'an OpenDocument file',
      'PK\x03\x04',
      { confirm: ({ head }) => zipMimetype(head).startsWith('application/vnd.oasis.opendocument') },
    ],
    [
      'a Microsoft Office document',
      'PK\x03\x04',
      {
        confirm: ({ head }) =>
          /^(\[Content_Types\]\.xml|_rels\/|docProps\/|word\/|xl\/|ppt\/)/.test(zipEntry(head)),
      },
    ],
    [
      'a PDF document',
      '%PDF-',
      { isText: true, advice: 'convert it to plain text first, for example with pdftotext' },
    ],
    [
      'a PostScript document',
      '%!PS',
      { isText: true, advice: 'convert it to plain text first, for example with ps2ascii' },
    ],
    ['an encapsulated PostScript document', '\xc5\xd0\xd3\xc6'],
    ['an RTF document', '{\\rtf', { isText: true }],
    ['a Microsoft Office document of the old format', '\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1'],
    ['a DjVu document', 'AT&TFORM'],
    ['a compiled HTML help file', 'ITSF\x03'],
    ['a Mobipocket book', 'BOOKMOBI', { at: [60] }],
    ['a DVI document', '\xf7\x02\x01\x83\x92\xc0\x1c\x3b'],
    ['an Apple property list', 'bplist0'],
  ],
  program: [
    ['an Android package', 'PK\x03\x04', { confirm: ({ head }) => zipEntry(head) === 'AndroidManifest.xml' }],
    ['a Java archive', 'PK\x03\x04', { confirm: ({ head }) => zipEntry(head).startsWith('META-INF/') }],
    ['an ELF program or library', '\x7fELF'],
    ['a Windows program', 'MZ', { confirm: ({ head }) => has(head, 'PE\0\0', u32(head, 0x3c)) }],
    [
      'a DOS program',
      'MZ',
      {
        confirm: ({ head, size }) =>
          head.length > 32 && head.readUInt16LE(2) < 512 && Math.abs(head.readUInt16LE(4) * 512 - size) < 512,
      },
    ],
    ['a Mach-O program', '\xcf\xfa\xed\xfe'],
    ['a Mach-O program', '\xce\xfa\xed\xfe'],
    ['a Mach-O program or Java class', '\xca\xfe\xba\xbe'],
    ['a WebAssembly module', '\0asm\x01\0\0\0'],
    ['compiled Python', '\r\n', { at: [2], confirm: ({ head }) => u32(head, 4) >= 0 && u32(head, 4) < 4 }],
    ['compiled Lua', '\x1bLua'],
    ['an Android program', 'dex\n03'],
    ['LLVM bitcode', 'BC\xc0\xde'],
  ],
  image: [
    ['a PNG image', '\x89PNG\r\n\x1a\n'],
    ['a JPEG image', '\xff\xd8\xff', { confirm: ({ head }) => (head[3] ?? 0) >= 0xc0 }],
    ['a GIF image', 'GIF87a'],
    ['a GIF image', 'GIF89a'],
    ['a TIFF image', 'II*\0', { confirm: ({ head, size }) => u32(head, 4) >= 8 && u32(head, 4) < size }],
    [
      'a TIFF image',
      'MM\0*',
      {
        confirm: ({ head, size }) =>
          head.length >= 8 && head.readUInt32BE(4) >= 8 && head.readUInt32BE(4) < size,
      },
    ],
    ['a BMP image', 'BM', { confirm: ({ head, size }) => u32(head, 2) === size && u32(head, 6) === 0 }],
    ['a WebP image', 'RIFF', { confirm: ({ head }) => has(head, 'WEBP', 8) }],
    [
      'an icon',
      '\0\0\x01\0',
      {
        confirm: ({ head, size }) =>
          (head[4] ?? 0) > 0 &&
          head[5] === 0 &&
          head[9] === 0 &&
          u32(head, 18) === 6 + 16 * (head[4] ?? 0) &&
          u32(head, 14) < size,
      },
    ],
    ['a Photoshop image', '8BPS\0\x01'],
    ['a JPEG XL image', '\0\0\0\x0cJXL \r\n\x87\n'],
    ['a JPEG 2000 image', '\0\0\0\x0cjP  \r\n\x87\n'],
    ['an AVIF image', 'ftypavif', { at: [4] }],
    ['a HEIC image', 'ftyphei', { at: [4] }],
    ['a HEIC image', 'ftypmif1', { at: [4] }],
    ['an OpenEXR image', '\x76\x2f\x31\x01'],
    ['a QOI image', 'qoif\0'],
    ['a DDS texture', 'DDS \x7c\0\0\0'],
    [
      'a Netpbm image',
      'P',
      { confirm: ({ head }) => /^P[4-6]\s+\d+\s+\d+\s/.test(head.toString('latin1', 0, 40)) },
    ],
  ],
  media: [
    ['a video or audio file (MP4)', 'ftyp', { at: [4] }],
    ['a Matroska or WebM video', '\x1a\x45\xdf\xa3'],
    ['an AVI video', 'RIFF', { confirm: ({ head }) => has(head, 'AVI ', 8) }],
    ['a WAV audio file', 'RIFF', { confirm: ({ head }) => has(head, 'WAVE', 8) }],
    ['an MP3 audio file', 'ID3', { confirm: ({ head }) => (head[3] ?? 9) <= 4 }],
    ['an MP3 audio file', '\xff', { confirm: ({ head }) => isMp3(head) }],
    ['a FLAC audio file', 'fLaC'],
    ['an Ogg audio or video file', 'OggS\0'],
    ['an AIFF audio file', 'FORM', { confirm: ({ head }) => has(head, 'AIF', 8) }],
    ['a MIDI file', 'MThd\0\0\0\x06'],
    ['an AMR audio file', '#!AMR'],
    ['an AU audio file', '.snd\0'],
    ['an FLV video', 'FLV\x01'],
    ['a Windows Media file', '\x30\x26\xb2\x75\x8e\x66\xcf\x11'],
    ['an MPEG video', '\0\0\x01\xba'],
    ['an MPEG video', '\0\0\x01\xb3'],
    [
      'an MPEG transport stream',
      '\x47',
      {
        confirm: ({ head }) =>
          head.length >= 377 && head[188] === 0x47 && head[376] === 0x47 && ((head[3] ?? 0) & 0x30) !== 0,
      },
    ],
  ],
  font: [
    [
      'a TrueType font',
      '\0\x01\0\0\0',
      { confirm: ({ head }) => (head[5] ?? 0) > 0 && /^[ -~]{4}$/.test(head.toString('latin1', 12, 16)) },
    ],
    ['an OpenType font', 'OTTO\0'],
    ['a font collection', 'ttcf\0'],
    ['a WOFF font', 'wOFF'],
    ['a WOFF2 font', 'wOF2'],
    ['a Type 1 font', '\x80\x01', { confirm: ({ head }) => has(head, '%!', 6) }],
  ],
  database: [
    ['an SQLite database', 'SQLite format 3\0'],
    ['a DuckDB database', 'DUCK', { at: [8] }],
    ['an Access database', '\0\x01\0\0Standard '],
    ['an LMDB database', '\xde\xc0\xef\xbe', { at: [16] }],
    ['a Berkeley database', '\x62\x31\x05\0', { at: [12] }],
    ['a Berkeley database', '\x61\x15\x06\0', { at: [12] }],
    ['a GDBM database', '\xcf\x9a\x57\x13'],
    ['a PostgreSQL dump', 'PGDMP'],
    ['a Redis dump', 'REDIS0'],
    ['a LevelDB or RocksDB table', '', { confirm: endsWith('\x57\xfb\x80\x8b\x24\x75\x47\xdb') }],
  ],
  encrypted: [
    ['a file encrypted by OpenSSL', 'Salted__', { confirm: ({ size }) => size % 8 === 0 }],
    ['a file encrypted by age', 'age-encryption.org/', { isText: true }],
    ['an encrypted PGP message', '-----BEGIN PGP MESSAGE', { isText: true }],
    ['a LUKS volume', 'LUKS\xba\xbe'],
  ],
  other: [
    ['captured network packets', '\xd4\xc3\xb2\xa1'],
    ['captured network packets', '\xa1\xb2\xc3\xd4'],
    ['captured network packets', '\x0a\x0d\x0d\x0a'],
    ['a Blender file', 'BLENDER'],
    ['a glTF model', 'glTF\x02'],
    ['a BitTorrent file', 'd8:announce'],
    ['a folder’s settings of macOS (.DS_Store)', '\0\0\0\x01Bud1'],
    ['a Windows shortcut', '\x4c\0\0\0\x01\x14\x02\0'],
    ['a Windows event log', 'ElfFile\0'],
  ],
  compressed: [
    ['gzip', '\x1f\x8b\x08', { id: 'gzip', confirm: ({ head }) => ((head[3] ?? 0) & 0xe0) === 0 }],
    ['zstd', '\x28\xb5\x2f\xfd', { id: 'zstd' }],
    ['zstd', '\x2a\x4d\x18', { id: 'zstd', at: [1], confirm: ({ head }) => isSkippedZstd(head) }],
    ['xz', '\xfd7zXZ\0', { id: 'xz' }],
    ['bzip2', 'BZh', { id: 'bzip2', isText: true, confirm: ({ head }) => isBzip2(head) }],
    ['LZ4', '\x04\x22\x4d\x18', { advice: 'decompress it first, with lz4 -d' }],
    ['LZ4 of the legacy format', '\x02\x21\x4c\x18', { advice: 'decompress it first, with lz4 -d' }],
    ['lzip', 'LZIP\x01', { advice: 'decompress it first, with lzip -d' }],
    [
      'LZMA',
      '\x5d\0\0',
      { advice: 'decompress it first, with xz --format=lzma -d', confirm: ({ head }) => isLzma(head) },
    ],
    ['lzop', '\x89LZO\0\r\n\x1a\n', { advice: 'decompress it first, with lzop -d' }],
    [
      'compress (.Z)',
      '\x1f\x9d',
      {
        advice: 'decompress it first, with uncompress',
        confirm: ({ head }) =>
          ((head[2] ?? 0) & 0x60) === 0 && ((head[2] ?? 0) & 0x1f) >= 9 && ((head[2] ?? 0) & 0x1f) <= 16,
      },
    ],
    ['framed Snappy', '\xff\x06\0\0sNaPpY', { advice: 'decompress it first, with snzip -d' }],
    ['lrzip', 'LRZI\0', { advice: 'decompress it first, with lrzip -d' }],
    ['zpaq', '7kSt\xa0\x31\x83\xd3', { advice: 'decompress it first, with zpaq' }],
    ['Zstandard with a dictionary', '\x37\xa4\x30\xec'],
  ],
  archive: [
    ['a ZIP archive', 'PK\x03\x04'],
    ['an empty ZIP archive', 'PK\x05\x06'],
    ['a part of a ZIP archive', 'PK\x07\x08'],
    ['a tar archive', 'ustar', { at: [257] }],
    ['a 7-Zip archive', '7z\xbc\xaf\x27\x1c'],
    ['a RAR archive', 'Rar!\x1a\x07'],
    ['an ar archive, such as a .deb or .a file', '!<arch>\n', { isText: true }],
    [
      'a cpio archive',
      '070701',
      { isText: true, confirm: ({ head }) => /^[0-9A-Fa-f]{104}$/.test(head.toString('latin1', 6, 110)) },
    ],
    [
      'a cpio archive',
      '070707',
      { isText: true, confirm: ({ head }) => /^[0-7]{70}$/.test(head.toString('latin1', 6, 76)) },
    ],
    [
      'a cpio archive',
      '\xc7\x71',
      { confirm: ({ head, size }) => size % 512 === 0 && head.length > 26 && head.readUInt16LE(20) < 1024 },
    ],
    ['a Windows cabinet', 'MSCF\0\0\0\0'],
    ['a xar archive', 'xar!\0'],
    ['an LHA archive', '-lh', { at: [2], confirm: ({ head }) => head[6] === 0x2d }],
    ['an ACE archive', '**ACE**', { at: [7] }],
    ['an RPM package', '\xed\xab\xee\xdb'],
    ['an ISO 9660 disk image', 'CD001', { at: [32769] }],
    ['a SquashFS image', 'hsqs'],
    ['a WARC web archive', 'WARC/1.', { isText: true, advice: 'extract the text of its pages first' }],
    ['a ZIM archive', 'ZIM\x04'],
    ['a Chrome extension', 'Cr24'],
    ['a git pack', 'PACK\0\0\0'],
    ['a git index', 'DIRC\0\0\0'],
    ['a git bundle', '# v2 git bundle\n', { isText: true }],
    ['an Apple disk image', '', { confirm: ({ tail }) => has(tail, 'koly\0\0\0\x04', tail.length - 512) }],
  ],
};

const SIGNATURES: readonly (Signature & { bytes: Buffer })[] = (Object.keys(ROWS) as Category[]).flatMap(
  (category) =>
    ROWS[category].map(([name, magic, more]) => {
      const bytes = Buffer.from(magic, 'latin1');
      return { name, magic, bytes, category, ...more };
    }),
);

/**
 * The format that the first bytes of a file name; null if none does.
 *
 * @param isText whether its bytes are printable text, as `statisticsOf` finds
 */
export function signatureOf(ends: Ends, isText: boolean): Format | null {
  const { head } = ends;
  const begins = (bytes: Buffer, at: number) =>
    bytes.length === 0 || (head[at] === bytes[0] && head.subarray(at, at + bytes.length).equals(bytes));
  const found = SIGNATURES.find(
    ({ bytes, at = [0], confirm, isText: mayBeText }) =>
      (mayBeText || !isText) && at.some((position) => begins(bytes, position)) && (confirm?.(ends) ?? true),
  );
  return found ?? null;
}
