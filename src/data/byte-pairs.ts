/** Byte-pair encoding of words of any length in O(n log n), as Sennrich et al. 2016 (arXiv 1508.07909), section 3.2, defines it. */

/**
 * The ids of a word: of neighbouring parts whose union is a token, the pair of the lowest id is merged first, the leftmost of
 * equal ones; ids are numbered in the order of the merges.
 *
 * @param word bytes as characters of Latin-1; every single one is a token
 * @param ids of the tokens
 */
export function mergedPairs(word: string, ids: ReadonlyMap<string, number>): number[] {
  const { length } = word;
  // Parts are named by their first byte: where each ends, and where the one before it begins.
  const ends = Int32Array.from({ length }, (_, at) => at + 1);
  const before = Int32Array.from({ length }, (_, at) => at - 1);
  const pairs = new PairQueue(length);
  const offer = (at: number, end: number) => {
    const id = ids.get(word.slice(at, end));
    if (id !== undefined) pairs.add(id, at, end);
  };
  for (let at = 0; at + 1 < length; at++) offer(at, at + 2);
  for (let pair = pairs.take(); pair !== null; pair = pairs.take()) {
    const { at, end } = pair;
    const second = ends[at] as number;
    // The pair has since changed if a part of it was merged.
    if (second === 0 || second >= length || ends[second] !== end) continue;
    ends[at] = end;
    ends[second] = 0;
    if (end < length) {
      before[end] = at;
      offer(at, ends[end] as number);
    }
    if (at > 0) offer(before[at] as number, end);
  }
  const found: number[] = [];
  for (let at = 0; at < length; at = ends[at] as number) {
    found.push(ids.get(word.slice(at, ends[at])) as number);
  }
  return found;
}

/** A binary heap of pairs, the lowest id first, of equal ids the leftmost. */
class PairQueue {
  private readonly keys: number[] = [];
  private readonly lastBytes: number[] = [];

  constructor(private readonly wordLength: number) {}

  add(id: number, at: number, end: number): void {
    const key = id * this.wordLength + at;
    let place = this.keys.length;
    while (place > 0) {
      const parent = (place - 1) >> 1;
      if ((this.keys[parent] as number) <= key) break;
      this.move(parent, place);
      place = parent;
    }
    this.keys[place] = key;
    this.lastBytes[place] = end;
  }

  take(): { at: number; end: number } | null {
    const [first] = this.keys;
    const [end] = this.lastBytes;
    if (first === undefined || end === undefined) return null;
    const key = this.keys.pop() as number;
    const last = this.lastBytes.pop() as number;
    const { length } = this.keys;
    if (length > 0) {
      let place = 0;
      for (;;) {
        let child = 2 * place + 1;
        if (child >= length) break;
        if (child + 1 < length && (this.keys[child + 1] as number) < (this.keys[child] as number)) child += 1;
        if ((this.keys[child] as number) >= key) break;
        this.move(child, place);
        place = child;
      }
      this.keys[place] = key;
      this.lastBytes[place] = last;
    }
    return { at: first % this.wordLength, end };
  }

  private move(from: number, to: number): void {
    this.keys[to] = this.keys[from] as number;
    this.lastBytes[to] = this.lastBytes[from] as number;
  }
}
