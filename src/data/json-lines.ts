/** JSON Lines: recognised by name and content; the text of a line. */

/** Lines of a file that are looked at. */
const LINES = 20;

/** Whether a file is JSON Lines according to its name. C4, Dolma and others use .json.gz. */
export function isNamedJsonLines(path: string): boolean {
  return /\.(jsonl|ndjson|json)(\.(gz|zst|zstd|xz|bz2))?$/i.test(path);
}

/** Whether most of the first lines are JSON objects; a line that is cut off counts by its beginning. */
export function hasJsonLines(start: string, isEnd: boolean): boolean {
  const parts = start.split('\n');
  const cut = isEnd ? undefined : parts.pop();
  const lines = parts.filter((line) => line.trim() !== '').slice(0, LINES);
  if (lines.length === 0) return cut !== undefined && /^\s*\{\s*"(?:[^"\\]|\\.)*"\s*:/.test(cut);
  const objects = lines.filter((line) => line.trimStart().startsWith('{') && isObject(parsed(line)));
  return objects.length >= (2 / 3) * lines.length;
}

/** Whether text is the start of a JSON array of objects, or of an array or object over several lines. */
export function isJsonDocument(start: string): boolean {
  return /^\s*(\[\s*\{|\[\s*\n|\{\s*\n\s*")/.test(start);
}

/**
 * The text in a field of a line; null for a blank line or an empty text. NaN and Infinity, which Python's json writes, are
 * accepted as values of other fields.
 *
 * @throws Error with what is wrong with the line
 */
export function textOfLine(line: string, field: string): string | null {
  if (line.trim() === '') return null;
  const value = parsed(line);
  if (value === undefined) throw new Error('is not JSON');
  if (!isObject(value)) throw new Error('is not a JSON object');
  const text = value[field];
  if (typeof text === 'string') return text === '' ? null : text;
  const texts = Object.entries(value).filter(([, other]) => typeof other === 'string');
  const others =
    texts.length === 0 ? 'no other field is text' : `text is in ${texts.map(([key]) => key).join(', ')}`;
  throw new Error(`has no text in its field '${field}': ${others}; name it with --field`);
}

/** The value of JSON; undefined if it is not JSON. */
function parsed(line: string): unknown {
  try {
    return JSON.parse(line);
  } catch {
    const strict = line.replace(/"(?:[^"\\]|\\.)*"|-?\b(?:NaN|Infinity)\b/g, (found) =>
      found.startsWith('"') ? found : 'null',
    );
    if (strict === line) return undefined;
    try {
      return JSON.parse(strict);
    } catch {
      return undefined;
    }
  }
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
