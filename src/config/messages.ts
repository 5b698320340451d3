/** Turns schema issues into error messages: the key, what was found, what is allowed. */
import type { z } from 'zod';
import { keyText, type Path, type Problem, WrittenNumber, type YamlFile } from './document.js';
import { FOUND } from './schema.js';

type Issue = z.core.$ZodIssue;

/** One problem per schema issue. */
export function problemsOf(issues: Issue[], file: YamlFile): Problem[] {
  return issues.flatMap((issue) => problemsOfIssue(issue, [], file));
}

function problemsOfIssue(issue: Issue, parent: Path, file: YamlFile): Problem[] {
  const path = [...parent, ...(issue.path as Path)];
  if (issue.code === 'invalid_union') {
    const nearest = nearestBranch(issue.errors);
    if (nearest !== null) return nearest.flatMap((inner) => problemsOfIssue(inner, path, file));
  }
  if (issue.code === 'unrecognized_keys') {
    const known = issue.message.split(', ');
    return issue.keys.map((key) => unknownKey(key, known, path, file));
  }
  const foundText = issue.code === 'custom' ? issue.params?.[FOUND] : undefined;
  const value = valueAt(file.value, path);
  const key = path.length === 0 ? '' : `${keyText(path)}: `;
  if (value === undefined) {
    return [{ offset: file.valueOffset(path), text: `${key}missing; needed: ${issue.message}` }];
  }
  const found = typeof foundText === 'string' ? foundText : describe(value);
  return [{ offset: file.valueOffset(path), text: `${key}found ${found}; allowed: ${issue.message}` }];
}

/** The alternative that matches the value best, by the depth of its deepest issue; null if none matches any part. */
function nearestBranch(branches: Issue[][]): Issue[] | null {
  const depth = (issues: Issue[]) => Math.max(0, ...issues.map(depthOf));
  const best = [...branches].sort((a, b) => depth(b) - depth(a))[0];
  return best !== undefined && depth(best) > 0 ? best : null;
}

function depthOf(issue: Issue): number {
  // An empty list still matches a list, a mapping with an extra key still matches a mapping.
  if (issue.code === 'unrecognized_keys' || issue.code === 'too_small') return 1;
  return issue.path.length;
}

function unknownKey(key: string, known: string[], path: Path, file: YamlFile): Problem {
  const at = [...path, key];
  const near = nearestWord(key, known);
  const allowed = near === null ? `allowed: ${known.join(', ')}` : `did you mean ${near}?`;
  return { offset: file.keyOffset(at), text: `${keyText(at)}: unknown key; ${allowed}` };
}

function valueAt(root: unknown, path: Path): unknown {
  return path.reduce<unknown>(
    (value, part) => (value as Record<string | number, unknown> | null | undefined)?.[part],
    root,
  );
}

const LONGEST = 40;

function describe(value: unknown): string {
  if (value === null) return 'nothing';
  if (value instanceof WrittenNumber) return shortened(value.text);
  if (typeof value === 'string') {
    const quoted = value.trim() !== '' && Number.isFinite(Number(value)) ? ', a number in quotes' : '';
    return `the text '${shortened(value)}'${quoted}`;
  }
  if (Array.isArray(value)) return value.length === 0 ? 'an empty list' : 'a list';
  return typeof value === 'object' ? 'a mapping' : String(value);
}

const shortened = (text: string) => (text.length <= LONGEST ? text : `${text.slice(0, LONGEST)}...`);

/** The candidate with the smallest edit distance, if it is small. */
export function nearestWord(word: string, known: readonly string[]): string | null {
  const distances = known.map((candidate) => editDistance(word.toLowerCase(), candidate));
  const least = Math.min(...distances);
  return least <= Math.ceil(0.4 * word.length) ? (known[distances.indexOf(least)] ?? null) : null;
}

/** Insertions, deletions and substitutions from a to b (Levenshtein 1966). */
function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const above = row;
    row = [i];
    for (let j = 1; j <= b.length; j++) {
      const substituted = (above[j - 1] as number) + (a[i - 1] === b[j - 1] ? 0 : 1);
      row.push(Math.min((above[j] as number) + 1, (row[j - 1] as number) + 1, substituted));
    }
  }
  return row[b.length] as number;
}
