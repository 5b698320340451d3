/** Reads event files of this program back: what a curve has so far, so that a later export only adds to it. */
import { checksum, type Scalar } from './tensorboard.js';

export interface ReadEvents {
  /** What a reader shows: by name and step, after restarts. */
  values: Map<string, Map<number, number>>;
  /** Length of the whole records; the rest of the file is a record that was not written to its end. */
  bytes: number;
}

/** The events of a file; null if it is damaged, or has events that this program does not write. */
export function readEvents(file: Buffer): ReadEvents | null {
  const values = new Map<string, Map<number, number>>();
  let at = 0;
  try {
    for (let data = recordAt(file, at); data !== null; data = recordAt(file, at)) {
      apply(eventOf(data), values);
      at += 16 + data.length;
    }
  } catch {
    return null;
  }
  return at === 0 ? null : { values, bytes: at };
}

/** The data of the record at an offset; null at the end, or if it is cut off. @throws Error for wrong checksums */
function recordAt(file: Buffer, at: number): Buffer | null {
  if (at + 12 > file.length) return null;
  const head = file.subarray(at, at + 8);
  if (!file.subarray(at + 8, at + 12).equals(checksum(head))) throw new Error('length of a record');
  const length = Number(head.readBigUInt64LE());
  if (at + 16 + length > file.length) return null;
  const data = file.subarray(at + 12, at + 12 + length);
  if (!file.subarray(at + 12 + length, at + 16 + length).equals(checksum(data))) throw new Error('a record');
  return data;
}

type Event =
  | { kind: 'version' }
  | { kind: 'restart'; step: number }
  | ({ kind: 'scalar' } & Omit<Scalar, 'wallTime'>);

function apply(event: Event, values: ReadEvents['values']): void {
  switch (event.kind) {
    case 'version':
      return;
    case 'restart':
      for (const curve of values.values()) {
        for (const step of curve.keys()) if (step >= event.step) curve.delete(step);
      }
      return;
    case 'scalar':
      values.set(
        event.tag,
        (values.get(event.tag) ?? new Map<number, number>()).set(event.step, event.value),
      );
      return;
    default:
      event satisfies never;
  }
}

/** @throws Error for an event that this program does not write */
function eventOf(data: Buffer): Event {
  const { 2: step = 0, 3: version, 5: summary, 7: session } = fields(data);
  if (version !== undefined) return { kind: 'version' };
  if (session !== undefined) return { kind: 'restart', step: Number(step) };
  const { 1: value } = fields(summary as Buffer);
  const { 1: tag, 2: number } = fields(value as Buffer);
  return {
    kind: 'scalar',
    tag: (tag as Buffer).toString('utf8'),
    step: Number(step),
    value: (number as Buffer).readFloatLE(),
  };
}

/** The fields of a protobuf message: varints as numbers, all others as bytes. The last of equal ones counts. */
function fields(message: Buffer): Record<number, number | Buffer | undefined> {
  const found: Record<number, number | Buffer> = {};
  let at = 0;
  const varint = () => {
    let [value, scale] = [0, 1];
    for (;;) {
      const byte = message.readUInt8(at++);
      value += (byte & 127) * scale;
      if (byte < 128) return value;
      scale *= 128;
    }
  };
  const take = (length: number) => {
    if (at + length > message.length) throw new RangeError('a field beyond its message');
    at += length;
    return message.subarray(at - length, at);
  };
  while (at < message.length) {
    const key = varint();
    const wireType = key & 7;
    const lengths: Record<number, () => number> = { 1: () => 8, 2: varint, 5: () => 4 };
    const length = lengths[wireType];
    found[key >>> 3] = wireType === 0 ? varint() : take((length as () => number)());
  }
  return found;
}
