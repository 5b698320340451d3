/** `mod data info`: the contents of token and text files. */

import { relative } from 'node:path';
import { findFiles, withFolders } from '../data/files.js';
import { type FileContents, inspectText, inspectTokens, isTokenFile, provenanceOf } from '../data/inspect.js';
import { textFormat } from '../data/text-format.js';
import type { Tokenizer } from '../data/tokenizer.js';
import { openTokenizer } from '../data/tokenizers.js';
import type { TokenWidth } from '../files/guess.js';
import { jsonText } from '../files/numbers.js';
import { count, table } from '../format.js';

export interface DataInfoOptions {
  /** Absent: the tokenizer recorded in the file's folder, or bytes for a text file. */
  tokenizer?: string;
  field: string;
  /** Bytes per token of files without a header. */
  tokenBytes: TokenWidth;
  /** Reads what the statistics of its bytes reject. */
  unchecked: boolean;
  json: boolean;
}

const SAMPLE_WIDTH = 72;

/** @throws InputError for the first file that is missing or damaged, or contains a token outside the vocabulary */
export async function dataInfoCommand(
  patterns: string[],
  options: DataInfoOptions,
  out: (text: string) => void,
): Promise<void> {
  const files: FileContents[] = [];
  const tokenizers = new Map<string, Tokenizer>();
  const cachedTokenizer = async (name: string) => {
    const tokenizer = tokenizers.get(name) ?? (await openTokenizer(name, process.cwd()));
    tokenizers.set(name, tokenizer);
    return tokenizer;
  };
  const { tokenBytes, unchecked } = options;
  const checks = { tokenBytes, unchecked, option: '--unchecked' };
  for (const { path } of findFiles(withFolders(patterns, process.cwd()), process.cwd())) {
    if (isTokenFile(path)) {
      const provenance = provenanceOf(path);
      const name = options.tokenizer ?? provenance.tokenizer;
      const tokenizer = name === null ? null : await cachedTokenizer(name);
      files.push(await inspectTokens(path, checks, tokenizer, provenance));
    } else {
      const documents = { field: options.field, separator: null };
      const format = await textFormat(path, { ...checks, separator: null });
      files.push(
        await inspectText(path, format, documents, await cachedTokenizer(options.tokenizer ?? 'bytes')),
      );
    }
  }
  out(options.json ? jsonText(files, 1) : report(files));
}

function report(files: FileContents[]): string {
  const name = ({ file }: FileContents) => relative(process.cwd(), file);
  const head = ['file', 'format', 'tokens', 'documents', 'in use', 'largest'];
  const rows = files.map((contents) => [
    name(contents),
    contents.format,
    count(contents.tokens),
    contents.documents === null ? '-' : count(contents.documents),
    count(contents.vocabulary_in_use),
    count(contents.largest_token),
  ]);
  const samples = files.map((contents) => {
    const { sample, first_tokens } = contents;
    const text = sample === null ? `tokens ${first_tokens.join(' ')}` : JSON.stringify(sample);
    return `${name(contents)}\n  ${text.length > SAMPLE_WIDTH ? `${text.slice(0, SAMPLE_WIDTH)}...` : text}`;
  });
  return [table(head, rows), ...samples].join('\n\n');
}
