/** A YAML file as plain values with the position of each, and numbers with their text. */
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

/** A number together with its text in the file, which run ids use. */
export class WrittenNumber {
  constructor(
    readonly value: number,
    readonly text: string,
  ) {}
}

export type Path = (string | number)[];

/** A problem at an offset of the file: the key, what was found, what is allowed. */
export interface Problem {
  offset: number;
  text: string;
}

/** Maximum number of values that all aliases expand to: far above that of any sweep, far below one that fills memory. */
const MAX_ALIASED_VALUES = 10_000;

/** `grids[0].training.learning_rate` */
export function keyText(path: Path): string {
  return path
    .map((part, i) => (typeof part === 'number' ? `[${part}]` : i === 0 ? part : `.${part}`))
    .join('');
}

/** A parsed YAML file: mappings are objects without a prototype, numbers are `WrittenNumber`. */
export class YamlFile {
  readonly value: unknown;
  private readonly lines = new LineCounter();
  private readonly document: Document.Parsed;
  /** Offsets of key and value, by the text of a path. */
  private readonly places = new Map<string, { key: number; value: number }>();
  private readonly problems: Problem[] = [];
  private aliasedValues = 0;

  /**
   * @param settings `key=value` texts, whose values replace those of the file: `training.learning_rate=1e-3`
   * @throws InputError for text that is not YAML or has values that are not plain: file:line:column and the reason, one line per problem
   */
  constructor(
    private readonly path: string,
    text: string,
    private readonly settings: readonly string[] = [],
  ) {
    // Duplicate keys are reported below, with the full path of the key.
    const options = {
      lineCounter: this.lines,
      prettyErrors: false,
      uniqueKeys: false,
      schema: 'core',
    } as const;
    this.document = parseDocument(text, options);
    const { errors, warnings, contents } = this.document;
    // Only the first error: the others follow from it. The library reports an unknown tag as a warning.
    const [fault] = [...errors, ...warnings];
    if (fault !== undefined)
      throw this.error([{ offset: fault.pos[0], text: `yaml: ${messageOfFault(fault)}` }]);
    if (contents === null) throw this.error([{ offset: 0, text: 'found nothing: the file is empty' }]);
    this.value = this.plain(contents, [], []);
    settings.forEach((setting, i) => {
      this.set(setting, i);
    });
    if (this.problems.length > 0) throw this.error(this.problems);
  }

  /** `file:line:column` of an offset; the setting that has a negative one. */
  at(offset: number): string {
    if (offset < 0) return `--set ${this.settings[-1 - offset]}`;
    const { line, col } = this.lines.linePos(offset);
    return `${this.path}:${Math.max(1, line)}:${Math.max(1, col)}`;
  }

  /** All problems as one error, in file order, one line each. */
  error(problems: Problem[]): InputError {
    const sorted = [...problems].sort((a, b) => a.offset - b.offset);
    return new InputError(sorted.map(({ offset, text }) => `${this.at(offset)}: ${text}`).join('\n'));
  }

  /** The offset of the value of a path; if absent, that of the innermost part of the path that is present. */
  valueOffset(path: Path): number {
    const place = this.places.get(keyText(path));
    if (place !== undefined || path.length === 0) return place?.value ?? 0;
    return this.valueOffset(path.slice(0, -1));
  }

  /** The offset of the last key of a path. */
  keyOffset(path: Path): number {
    return this.places.get(keyText(path))?.key ?? this.valueOffset(path);
  }

  /** Sets the value of one `key=value` text, read as YAML. Its offset is below 0, and distinguishes the settings. */
  private set(setting: string, index: number): void {
    const offset = -1 - index;
    const [, key, text] = /^([\w-]+(?:\.[\w-]+)*)=(.*)$/s.exec(setting) ?? [];
    if (key === undefined || text === undefined) {
      throw this.error([{ offset, text: 'found no key=value; as in --set training.learning_rate=1e-3' }]);
    }
    const path = key.split('.');
    const value = text.trim() === '' ? null : new YamlFile(`--set ${key}`, text).value;
    for (const known of this.places.keys()) {
      if (known.startsWith(`${key}.`) || known.startsWith(`${key}[`)) this.places.delete(known);
    }
    let parent = this.value as Record<string, unknown>;
    path.forEach((part, i) => {
      const at = path.slice(0, i + 1);
      const isLast = i === path.length - 1;
      this.places.set(
        keyText(at),
        isLast || !(part in parent) ? { key: offset, value: offset } : this.placeOf(at),
      );
      if (isLast) {
        parent[part] = value;
        return;
      }
      const inner = parent[part];
      const isMapping = typeof inner === 'object' && inner !== null && !Array.isArray(inner);
      if (!isMapping || inner instanceof WrittenNumber) parent[part] = Object.create(null);
      parent = parent[part] as Record<string, unknown>;
    });
  }

  private placeOf(path: Path): { key: number; value: number } {
    return { key: this.keyOffset(path), value: this.valueOffset(path) };
  }

  /** The plain value of a node; `open` are the nodes and aliases that contain it. */
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
    return typeof value === 'number' ? new WrittenNumber(value, source ?? String(value)) : value;
  }

  private mapping(items: unknown[], path: Path, inside: Node[]): Record<string, unknown> {
    const result: Record<string, unknown> = Object.create(null);
    for (const { key, value } of items.filter(isPair)) {
      const offset = isNode(key) ? offsetOf(key) : this.valueOffset(path);
      if (!isScalar(key) || key.value === null) {
        this.report(offset, path, 'found a key that is not plain text');
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
      this.report(offsetOf(alias), path, `found *${alias.source} inside its own anchor, which never ends`);
      return null;
    }
    return this.plain(target, path, [...open, alias], this.keyOffset(path));
  }

  private countAliased(alias: Node, path: Path): void {
    this.aliasedValues += 1;
    if (this.aliasedValues <= MAX_ALIASED_VALUES) return;
    const text = `found aliases that expand to more than ${MAX_ALIASED_VALUES} values; write the values out`;
    throw this.error([{ offset: offsetOf(alias), text: `${keyText(path.slice(0, 1))}: ${text}` }]);
  }

  private report(offset: number, path: Path, text: string): void {
    this.problems.push({ offset, text: path.length === 0 ? text : `${keyText(path)}: ${text}` });
  }
}

/** The library's message, or a clearer one for an unsuitable hint. */
function messageOfFault({ code, message }: { code: string; message: string }): string {
  return code === 'MULTIPLE_DOCS' ? 'found a second document; a sweep file is one' : message;
}

function offsetOf(node: Node): number {
  return node.range?.[0] ?? 0;
}
