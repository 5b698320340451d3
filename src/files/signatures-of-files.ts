/** The signatures of formats that are in folders of data by mistake, or that contain text which has to be extracted. The first row that matches counts. */
import type { Category, Row } from './formats.js';
import { endsWith, has, isMp3, u32, zipEntry, zipMimetype } from './signature-checks.js';

export const FILE_ROWS = {
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
} satisfies Partial<Record<Category, readonly Row[]>>;
