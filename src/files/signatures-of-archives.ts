/** The signatures of compressed files and archives. The first row that matches counts. */
import type { Category, Row } from './formats.js';
import { has, isBzip2, isLzma, isSkippedZstd } from './signature-checks.js';

export const ARCHIVE_ROWS = {
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
} satisfies Partial<Record<Category, readonly Row[]>>;
