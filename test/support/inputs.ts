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
