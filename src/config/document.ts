/** A YAML file as plain values that remember where each was written, and numbers how. */
import {
  type Document,
  isAlias,
  isMap,
  isNode,
  isPair,
  isScalar,
  isSeq,
  LineCounter,
  type Node,
  parseDocument,
} from 'yaml';
import { InputError } from '../errors.js';

/** A number and the text that the file has for it: run ids use the text. */
export class Written {
  constructor(
    readonly value: number,
    readonly text: string,
  ) {}
}

export type Path = (string | number)[];

/** Something wrong at an offset of the file: the key, what was found, what is allowed. */
export interface Problem {
  offset: number;
  text: string;
}

/** Values that aliases may stand for, all together: far above any sweep's, far below what fills the memory. */
const MAX_ALIASED_VALUES = 10_000;

/** `grids[0].training.learning_rate` */
export function keyText(path: Path): string {
  return path
    .map((part, i) => (typeof part === 'number' ? `[${part}]` : i === 0 ? part : `.${part}`))
    .join('');
}

/** A parsed YAML file: mappings are objects without a prototype, numbers are `Written`. */
export class YamlFile {
  readonly value: unknown;
  private readonly lines = new LineCounter();
  private readonly document: Document.Parsed;
  /** By the text of a path: where its key and its value start. */
  private readonly places = new Map<string, { key: number; value: number }>();
  private readonly problems: Problem[] = [];
  private aliasedValues = 0;

  /** @throws InputError for text that is not YAML or has no plain value: file:line:column and why, a line a problem */
  constructor(
    private readonly path: string,
    text: string,
  ) {
    // Duplicate keys are found below, where the whole key is known.
    const options = {
      lineCounter: this.lines,
      prettyErrors: false,
      uniqueKeys: false,
      schema: 'core',
    } as const;
    this.document = parseDocument(text, options);
    const { errors, warnings, contents } = this.document;
    // The first fault alone: the others follow from it. The library calls a tag that it does not know a warning.
    const [fault] = [...errors, ...warnings];
    if (fault !== undefined) throw this.error([{ offset: fault.pos[0], text: `yaml: ${said(fault)}` }]);
    if (contents === null) throw this.error([{ offset: 0, text: 'found nothing: the file is empty' }]);
    this.value = this.plain(contents, [], []);
    if (this.problems.length > 0) throw this.error(this.problems);
  }

  /** `file:line:column` of an offset. */
  at(offset: number): string {
    const { line, col } = this.lines.linePos(offset);
    return `${this.path}:${Math.max(1, line)}:${Math.max(1, col)}`;
  }

  /** All problems as one error, in the order of the file, a line each. */
  error(problems: Problem[]): InputError {
    const sorted = [...problems].sort((a, b) => a.offset - b.offset);
    return new InputError(sorted.map(({ offset, text }) => `${this.at(offset)}: ${text}`).join('\n'));
  }

  /** Where the value of a path starts; where it was not written, the innermost part of the path that was. */
  valueOffset(path: Path): number {
    const place = this.places.get(keyText(path));
    if (place !== undefined || path.length === 0) return place?.value ?? 0;
    return this.valueOffset(path.slice(0, -1));
  }

  /** Where the last key of a path was written. */
  keyOffset(path: Path): number {
    return this.places.get(keyText(path))?.key ?? this.valueOffset(path);
  }

  /** The plain value of a node; `open` are the nodes and aliases that it is inside of. */
  private plain(node: Node | null, path: Path, open: Node[], keyOffset = 0): unknown {
    this.places.set(keyText(path), { key: keyOffset, value: node?.range?.[0] ?? keyOffset });
    if (node === null) return null;
    if (isAlias(node)) return this.aliased(node, path, open);
    const alias = open.find(isAlias);
    if (alias !== undefined) this.countAliased(alias, path);
    const inside = [...open, node];
    if (isSeq(node)) {
      return node.items.map((item, i) =>
        this.plain(item as Node, [...path, i], inside, offsetOf(item as Node)),
      );
    }
    if (isMap(node)) return this.mapping(node.items, path, inside);
    const { value, source } = node as { value?: unknown; source?: string };
    return typeof value === 'number' ? new Written(value, source ?? String(value)) : value;
  }

  private mapping(items: unknown[], path: Path, inside: Node[]): Record<string, unknown> {
    const result: Record<string, unknown> = Object.create(null);
    for (const { key, value } of items.filter(isPair)) {
      const offset = isNode(key) ? offsetOf(key) : this.valueOffset(path);
      if (!isScalar(key) || key.value === null) {
        this.report(offset, path, 'found a key that is not a word');
        continue;
      }
      const name = String(key.value);
      const at = [...path, name];
      if (name === '<<') this.report(offset, at, 'found a merge key; write out the keys, or use grids');
      else if (name in result) this.report(offset, at, 'found a second time; once is allowed');
      else result[name] = this.plain(value as Node | null, at, inside, offset);
    }
    return result;
  }

  private aliased(alias: Node & { source: string }, path: Path, open: Node[]): unknown {
    const target = (alias as Node & { resolve(document: Document): Node | undefined }).resolve(this.document);
    if (target === undefined) {
      this.report(offsetOf(alias), path, `found *${alias.source}; no &${alias.source} comes before it`);
      return null;
    }
    if (open.includes(target)) {
      this.report(
        offsetOf(alias),
        path,
        `found *${alias.source} inside of what it stands for: it never ends`,
      );
      return null;
    }
    return this.plain(target, path, [...open, alias], this.keyOffset(path));
  }

  private countAliased(alias: Node, path: Path): void {
    this.aliasedValues += 1;
    if (this.aliasedValues <= MAX_ALIASED_VALUES) return;
    const text = `found aliases that stand for more than ${MAX_ALIASED_VALUES} values; write out what you need`;
    throw this.error([{ offset: offsetOf(alias), text: `${keyText(path.slice(0, 1))}: ${text}` }]);
  }

  private report(offset: number, path: Path, text: string): void {
    this.problems.push({ offset, text: path.length === 0 ? text : `${keyText(path)}: ${text}` });
  }
}

/** The library's words, but for those that speak to a programmer. */
function said({ code, message }: { code: string; message: string }): string {
  return code === 'MULTIPLE_DOCS' ? 'found a second document; a sweep file is one' : message;
}

function offsetOf(node: Node): number {
  return node.range?.[0] ?? 0;
}
