/** Files of other programs, as bytes. */
import { crc32 } from 'node:zlib';

/** A ZIP archive of one entry that is not compressed. */
export function zipOf(name: string, content: string): Buffer {
  const entry = Buffer.alloc(30);
  entry.write('PK\x03\x04', 'latin1');
  entry.writeUInt16LE(10, 4);
  entry.writeUInt32LE(crc32(content), 14);
  entry.writeUInt32LE(content.length, 18);
  entry.writeUInt32LE(content.length, 22);
  entry.writeUInt16LE(name.length, 26);
  const directory = Buffer.alloc(46);
  directory.write('PK\x01\x02', 'latin1');
  entry.copy(directory, 6, 4, 30);
  const end = Buffer.alloc(22);
  end.write('PK\x05\x06', 'latin1');
  end.writeUInt16LE(1, 8);
  end.writeUInt16LE(1, 10);
  end.writeUInt32LE(46 + name.length, 12);
  end.writeUInt32LE(30 + name.length + content.length, 16);
  return Buffer.concat([entry, Buffer.from(name), Buffer.from(content), directory, Buffer.from(name), end]);
}

/** A tar archive of one file. */
export function tarOf(name: string, content: string): Buffer {
  const header = Buffer.alloc(512);
  header.write(name);
  header.write('0000644\0', 100);
  header.write(`${content.length.toString(8).padStart(11, '0')}\0`, 124);
  header.write('ustar\x0000', 257);
  const body = Buffer.alloc(512);
  body.write(content);
  return Buffer.concat([header, body, Buffer.alloc(1024)]);
}

export const fromBase64 = (text: string) => Buffer.from(text, 'base64');

/** A text in UTF-16 or UTF-32. */
export function encoded(text: string, encoding: 'utf-16le' | 'utf-16be' | 'utf-32le' | 'utf-32be'): Buffer {
  if (encoding === 'utf-16le') return Buffer.from(text, 'utf16le');
  if (encoding === 'utf-16be') return Buffer.from(text, 'utf16le').swap16();
  const codes = Uint32Array.from(text, (character) => character.codePointAt(0) as number);
  const bytes = Buffer.from(codes.buffer);
  return encoding === 'utf-32le' ? bytes : bytes.swap32();
}

/** Some hundred characters in several languages. */
export const LONG_TEXT = {
  english: 'The quick brown fox jumps over the lazy dog, and naïvely so.\n'.repeat(10),
  russian: 'Съешь же ещё этих мягких французских булок, да выпей чаю.\n'.repeat(10),
  japanese: '吾輩は猫である。名前はまだ無い。どこで生れたかとんと見当がつかぬ。\n'.repeat(10),
  chinese: '我是一个人，他们在这里说的是中文，不是别的。来到中国的人有很多。\n'.repeat(10),
  korean: '나는 고양이로소이다. 이름은 아직 없다. 어디서 태어났는지 모른다.\n'.repeat(10),
};

/** Token ids below 50257, small ones most frequent, of this many bytes each; the same in every run. */
export function tokenBytes(bytes: 2 | 4 | 8, count: number, bigEndian = false): Buffer {
  const out = Buffer.alloc(bytes * count);
  let state = 12345;
  for (let i = 0; i < count; i++) {
    state = (Math.imul(state, 1103515245) + 12345) >>> 0;
    const id = Math.floor(50257 ** ((state >>> 8) / 2 ** 24)) - 1;
    if (bytes === 8) out.writeBigUInt64LE(BigInt(id), 8 * i);
    else out.writeUIntLE(id, bytes * i, bytes);
  }
  if (!bigEndian) return out;
  return bytes === 2 ? out.swap16() : bytes === 4 ? out.swap32() : out.swap64();
}

/** A NumPy array file, as numpy.save writes it. */
export function npyOf(type: string, data: Uint8Array, shape: string, version = 1, fortran = 'False'): Buffer {
  const lengthBytes = version === 1 ? 2 : 4;
  const header = `{'descr': '${type}', 'fortran_order': ${fortran}, 'shape': ${shape}, }`;
  const start = 8 + lengthBytes;
  const padded = header.padEnd(Math.ceil((start + header.length + 1) / 64) * 64 - start - 1, ' ');
  const head = Buffer.alloc(start);
  head.write('\x93NUMPY', 'latin1');
  head[6] = version;
  head.writeUIntLE(padded.length + 1, 8, lengthBytes);
  return Buffer.concat([head, Buffer.from(`${padded}\n`), data]);
}

/**
 * Parquet files as pyarrow 26 writes them, by compression. `snappy` has the columns title, text and id, and in two row groups
 * the texts 'one', '', null and 'four naïve'; `zstd` its first row in a page of version 2 with a checksum, without a dictionary.
 */
export const PARQUET = {
  snappy: fromBase64(
    'UEFSMRUEFRQVGEwVBBUAEgAACiQBAAAAYQEAAABiFQAVEhUWLBUEFRAVBhUGHAAAAAkgAgAAAAQBAQMCFQQVFhUaTBUEFQASAAALKAMAAABvbmUAAAAAFQAVEhUWLBUEFRAVBhUGHAAAAAkgAgAAAAQBAQMCFQQVIBUkTBUEFQASAAAQPAEAAAAAAAAAAgAAAAAAAAAVABUSFRYsFQQVEBUGFQYcAAAACSACAAAABAEBAwIVBBUUFRhMFQQVABIAAAokAQAAAGMBAAAAZBUAFRIVFiwVBBUQFQYVBhwAAAAJIAIAAAAEAQEDAhUEFR4VIkwVAhUAEgAADzgLAAAAZm91ciBuYcOvdmUVABUSFRYsFQQVEBUGFQYcAAAACSACAAAAAwIBAgAVBBUgFSRMFQQVABIAABA8AwAAAAAAAAAEAAAAAAAAABUAFRIVFiwVBBUQFQYVBhwAAAAJIAIAAAAEAQEDAhUEGUw1ABgGc2NoZW1hFQYAFQwlAhgFdGl0bGUlAEwcAAAAFQwlAhgEdGV4dCUATBwAAAAVBCUCGAJpZAAWCBksGTwmABwVDBk1AAYQGRgFdGl0bGUVAhYEFmgWcCY8JggpLBUEFQAVAgAVABUQFQIAPBYEGQYZJgAEAAAAJgAcFQwZNQAGEBkYBHRleHQVAhYEFmoWciauASZ4KSwVBBUAFQIAFQAVEBUCADwWBhkGGSYABAAAACYAHBUEGTUABhAZGAJpZBUCFgQWdBZ8JqoCJuoBKSwVBBUAFQIAFQAVEBUCADwpBhkmAAQAAAAWxgIWBCYIFt4CABk8JgAcFQwZNQAGEBkYBXRpdGxlFQIWBBZoFnAmmgMm5gIpLBUEFQAVAgAVABUQFQIAPBYEGQYZJgAEAAAAJgAcFQwZNQAGEBkYBHRleHQVAhYEFnIWeiaUBCbWAyksFQQVABUCABUAFRAVAgA8FhYZBhkmAgIAAAAmABwVBBk1AAYQGRgCaWQVAhYEFnQWfCaQBSbQBCksFQQVABUCABUAFRAVAgA8KQYZJgAEAAAAFs4CFgQm5gIW5gIAKCBwYXJxdWV0LWNwcC1hcnJvdyB2ZXJzaW9uIDI2LjAuMRk8HAAAHAAAHAAAAOMBAABQQVIx',
  ),
  zstd: fromBase64(
    'UEFSMRUGFQ4VDhXn6ayYB0wVAhUAFQIVABUEFQASHAAAAAIBAQAAAGEVBhUSFRIV75j89glMFQIVABUCFQAVBBUAEhwAAAACAQMAAABvbmUVBhUUFRQVrLL1ygdMFQIVABUCFQAVBBUAEhwAAAACAQEAAAAAAAAAFQQZTDUAGAZzY2hlbWEVBgAVDCUCGAV0aXRsZSUATBwAAAAVDCUCGAR0ZXh0JQBMHAAAABUEJQIYAmlkABYCGRwZPCYAHBUMGSUGABkYBXRpdGxlFQwWAhZKFkomCEkcFQAVABUCADwWAhkGGSYAAgAAACYAHBUMGSUGABkYBHRleHQVDBYCFk4WTiZSSRwVABUAFQIAPBYGGQYZJgACAAAAJgAcFQQZJQYAGRgCaWQVDBYCFlAWUCagAUkcFQAVABUCADwpBhkmAAIAAAAW6AEWAiYIFugBACggcGFycXVldC1jcHAtYXJyb3cgdmVyc2lvbiAyNi4wLjEZPBwAABwAABwAAAAHAQAAUEFSMQ==',
  ),
  lz4: fromBase64(
    'UEFSMRUEFT4VIkwVAhUAEgAAjhsAAABsejQgBABQNCBsejQVABUSFRQsFQIVEBUGFQYcAAAAkAIAAAACAQECABUEGSw1ABgGc2NoZW1hFQIAFQwlAhgEdGV4dCUATBwAAAAWAhkcGRwmABwVDBk1AAYQGRgEdGV4dBUOFgIWkgEWeCZGJggpLBUEFQAVAgAVABUQFQIAPBY2GQYZJgACAAAAFpIBFgImCBZ4ACggcGFycXVldC1jcHAtYXJyb3cgdmVyc2lvbiAyNi4wLjEZHBwAAACUAAAAUEFSMQ==',
  ),
  gzip: fromBase64(
    'UEFSMRUEFQwVNEwVAhUAEgAAH4sIAAAAAAACA2NiYGBIrwIA6mVmZgYAAAAVABUSFTosFQIVEBUGFQYcAAAAH4sIAAAAAAACA2NiYGBgYmRkYgAAmAB3OQkAAAAVBBksNQAYBnNjaGVtYRUCABUMJQIYBHRleHQlAEwcAAAAFgIZHBkcJgAcFQwZNQAGEBkYBHRleHQVBBYCFmAWsAEmWCYIKSwVBBUAFQIAFQAVEBUCADwWBBkGGSYAAgAAABZgFgImCBawAQAoIHBhcnF1ZXQtY3BwLWFycm93IHZlcnNpb24gMjYuMC4xGRwcAAAAlAAAAFBBUjE=',
  ),
  brotli: fromBase64(
    'UEFSMRUEFQwVFEwVAhUAEgAAiwKAAgAAAGJyAxUAFRIVGiwVAhUQFQYVBhwAAAAbCAAAJAECBEKXAI5rFQQZLDUAGAZzY2hlbWEVAgAVDCUCGAR0ZXh0JQBMHAAAABYCGRwZHCYAHBUMGTUABhAZGAR0ZXh0FQgWAhZgFnAmOCYIKSwVBBUAFQIAFQAVEBUCADwWBBkGGSYAAgAAABZgFgImCBZwACggcGFycXVldC1jcHAtYXJyb3cgdmVyc2lvbiAyNi4wLjEZHBwAAACSAAAAUEFSMQ==',
  ),
  empty: fromBase64(
    'UEFSMRUEFQAVAkwVABUAEgAAABUEGSw1ABgGc2NoZW1hFQIAFQwlAhgEdGV4dCUATBwAAAAWABkcGRwmABwVDBklAAYZGAR0ZXh0FQIWABYcFh4mACYIKRwVBBUAFQIAAAAWHBYAJggWHgAoIHBhcnF1ZXQtY3BwLWFycm93IHZlcnNpb24gMjYuMC4xGRwcAAAAgAAAAFBBUjE=',
  ),
};

/** `printf 'text of xz\n' | xz`, and of bzip2 and zstd. */
export const XZ = fromBase64(
  '/Td6WFoAAATm1rRGAgAhARYAAAB0L+WjAQAKdGV4dCBvZiB4egoAAMIHeBCdbLozAAEjC8Ib/QkftvN9AQAAAAAEWVo=',
);
export const BZIP2 = fromBase64(
  'QlpoOTFBWSZTWUFNUQUAAAXZgAAQQAAQABMgxFAgADEDQNAgAaaPQFODHEE+LuSKcKEggpqiCg==',
);
export const ZSTD = fromBase64('KLUv/QRYaQAAdGV4dCBvZiB6c3RkCsFjxRM=');
/** 'abcd' 100,000 times, by `bzip2 -1`: five blocks. */
export const BZIP2_BLOCKS = fromBase64(
  'QlpoMTFBWSZTWQLrtrAAMNGBADwAIABQZpoFKDqEoLCJQW0JQXUJQXmKCskymskrxJVgAw0YCAHgAQACgzTQKUHUJQWUJQWkSguoSgvMUFZJlNZtaKgdQCSdIEAPAAgAFBmmgUoOoSgsoSgtoSguIlBeYoKyTKayV/lDLgEk6QIAeABAAIClAM006hKCyhKC2hKC3qEoLzFBWSZTWfHx8R8AAAkBADwAIAAwzTQTVBxWFaVxXi7kinChIOv7mww=',
);
