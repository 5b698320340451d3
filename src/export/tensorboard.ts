/** TensorBoard event files: scalars as protobuf Event messages in TFRecords. */

/** One value of one curve. */
export interface Scalar {
  tag: string;
  step: number;
  value: number;
  /** Seconds since 1970. */
  wallTime: number;
}

/**
 * The bytes of an event file: the version record that readers require, then one Event per scalar, in order.
 * Field numbers of tensorflow/core/util/event.proto: wall_time 1 (double), step 2 (int64), file_version 3 (string),
 * summary 5; of summary.proto: value 1 {tag 1, simple_value 2 (float)}.
 */
export function eventFile(scalars: readonly Scalar[], startedAt: number): Buffer {
  const version = [double(1, startedAt), text(3, 'brain.Event:2')];
  return Buffer.concat([record(Buffer.concat(version)), eventRecords(scalars)]);
}

/** One Event per scalar. */
export function eventRecords(scalars: readonly Scalar[]): Buffer {
  return Buffer.concat(
    scalars.map(({ tag, step, value, wallTime }) => {
      const summaryValue = Buffer.concat([text(1, tag), float(2, value)]);
      return record(Buffer.concat([double(1, wallTime), integer(2, step), bytes(5, bytes(1, summaryValue))]));
    }),
  );
}

/**
 * The Event after which readers drop what they have from this step on: `session_log` 7 of event.proto, whose `status` 1 is
 * START (1).
 */
export function restartRecord(step: number, wallTime: number): Buffer {
  return record(Buffer.concat([double(1, wallTime), integer(2, step), bytes(7, integer(1, 1))]));
}

/** A TFRecord: length (uint64), its checksum, the data, its checksum, all little-endian. */
function record(data: Buffer): Buffer {
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(data.length));
  return Buffer.concat([length, checksum(length), data, checksum(data)]);
}

/** The masked CRC-32C of TFRecords: rotated and offset, because the CRC of data that contains CRCs is weak. */
export function checksum(data: Buffer): Buffer {
  const crc = crc32c(data);
  const masked = (((crc >>> 15) | (crc << 17)) + 0xa282ead8) >>> 0;
  const out = Buffer.alloc(4);
  out.writeUInt32LE(masked);
  return out;
}

/** Castagnoli's polynomial, bit-reversed. */
const POLYNOMIAL = 0x82f63b78;
const TABLE = Uint32Array.from({ length: 256 }, (_, byte) => {
  let crc = byte;
  for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ POLYNOMIAL : crc >>> 1;
  return crc;
});

/** CRC-32C of bytes (RFC 3720, appendix B.4), as an unsigned number. */
export function crc32c(data: Uint8Array): number {
  let crc = 0xffffffff;
  for (const byte of data) crc = (TABLE[(crc ^ byte) & 0xff] as number) ^ (crc >>> 8);
  return (crc ^ 0xffffffff) >>> 0;
}

/** Protobuf wire types. */
const [VARINT, FIXED64, LENGTH, FIXED32] = [0, 1, 2, 5];

const key = (field: number, wireType: number) => varint((field << 3) | wireType);

function varint(value: number): Buffer {
  const out: number[] = [];
  let rest = BigInt(value);
  do {
    const low = Number(rest & 127n);
    rest >>= 7n;
    out.push(rest === 0n ? low : low | 128);
  } while (rest !== 0n);
  return Buffer.from(out);
}

function integer(field: number, value: number): Buffer {
  return Buffer.concat([key(field, VARINT), varint(value)]);
}

function double(field: number, value: number): Buffer {
  const out = Buffer.alloc(8);
  out.writeDoubleLE(value);
  return Buffer.concat([key(field, FIXED64), out]);
}

function float(field: number, value: number): Buffer {
  const out = Buffer.alloc(4);
  out.writeFloatLE(value);
  return Buffer.concat([key(field, FIXED32), out]);
}

function bytes(field: number, value: Buffer): Buffer {
  return Buffer.concat([key(field, LENGTH), varint(value.length), value]);
}

const text = (field: number, value: string) => bytes(field, Buffer.from(value, 'utf8'));
