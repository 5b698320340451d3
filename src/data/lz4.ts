/** Decompresses a block of LZ4 (lz4/doc/lz4_Block_format.md), which Parquet calls LZ4_RAW. */

/**
 * @param length of the decompressed bytes
 * @throws Error for damaged bytes
 */
export function unpackLz4Block(bytes: Uint8Array, length: number): Uint8Array {
  const out = new Uint8Array(length);
  let at = 0;
  let filled = 0;
  const next = () => {
    const byte = bytes[at++];
    if (byte === undefined) throw new Error('an LZ4 block ends early');
    return byte;
  };
  const extended = (count: number) => {
    let sum = count;
    if (count === 15) {
      for (let more = 255; more === 255; sum += more) more = next();
    }
    return sum;
  };
  while (at < bytes.length) {
    const token = next();
    const literals = extended(token >> 4);
    if (at + literals > bytes.length || filled + literals > length)
      throw new Error('an LZ4 block is damaged');
    out.set(bytes.subarray(at, at + literals), filled);
    at += literals;
    filled += literals;
    if (at === bytes.length) break; // the last sequence has no match
    const offset = next() | (next() << 8);
    const match = extended(token & 15) + 4;
    if (offset === 0 || offset > filled || filled + match > length)
      throw new Error('an LZ4 block is damaged');
    // Byte by byte: a match may overlap its own output.
    for (let i = 0; i < match; i++, filled++) out[filled] = out[filled - offset] as number;
  }
  if (filled !== length) throw new Error('an LZ4 block ends early');
  return out;
}
