/** Text in UTF-16 and UTF-32 as UTF-8. */
import type { TextEncoding } from '../files/identify.js';

interface Decoder {
  decode(bytes: Buffer, options: { stream: boolean }): string;
}

/** The text of bytes that may end within a character. */
export function decodedText(bytes: Buffer, encoding: TextEncoding): string {
  return decoderOf(encoding).decode(bytes, { stream: true });
}

/** The bytes of a stream without its byte order mark, in UTF-8. Surrogates without their other half become U+FFFD. */
export async function* inUtf8(
  chunks: AsyncIterable<Buffer>,
  encoding: TextEncoding,
  markBytes: number,
): AsyncGenerator<Buffer> {
  const decoder = encoding === 'utf-8' ? null : decoderOf(encoding);
  let left = markBytes;
  for await (const chunk of chunks) {
    const bytes = chunk.subarray(left);
    left -= chunk.length - bytes.length;
    if (bytes.length > 0)
      yield decoder === null ? bytes : Buffer.from(decoder.decode(bytes, { stream: true }));
  }
  if (decoder !== null) {
    const rest = decoder.decode(Buffer.alloc(0), { stream: false });
    if (rest !== '') yield Buffer.from(rest);
  }
}

function decoderOf(encoding: TextEncoding): Decoder {
  return encoding === 'utf-32le' || encoding === 'utf-32be'
    ? new Utf32Decoder(encoding === 'utf-32be')
    : new TextDecoder(encoding, { ignoreBOM: true });
}

/** TextDecoder has no UTF-32. */
class Utf32Decoder implements Decoder {
  private pending = Buffer.alloc(0);

  constructor(private readonly bigEndian: boolean) {}

  decode(bytes: Buffer, { stream }: { stream: boolean }): string {
    const all = Buffer.concat([this.pending, bytes]);
    const whole = all.length - (all.length % 4);
    this.pending = all.subarray(whole);
    const characters: string[] = [];
    for (let at = 0; at < whole; at += 4) {
      const code = this.bigEndian ? all.readUInt32BE(at) : all.readUInt32LE(at);
      const isCharacter = code < 0x11_0000 && (code < 0xd800 || code > 0xdfff);
      characters.push(isCharacter ? String.fromCodePoint(code) : '\ufffd');
    }
    if (!stream && this.pending.length > 0) characters.push('\ufffd');
    return characters.join('');
  }
}
