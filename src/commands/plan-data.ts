/** The data of a plan: its size, what mod sweep would reject, and what makes its held-out losses misleading. */
import type { DataConfig, DataRole } from '../data/config.js';
import { heldoutWarnings } from '../data/heldout-check.js';
import { heldoutUse } from '../data/run-data.js';
import type { TokenSource } from '../data/token-source.js';
import { dataTokenizer } from '../data/tokenizers.js';
import { InputError } from '../errors.js';
import { canonicalJson } from '../files/canonical.js';
import { count } from '../format.js';
import type { PlannedRun } from '../plan/run.js';

/** Opens the tokens of a sweep; injected in tests. */
export type OpenTokens = (
  data: DataConfig,
  role: DataRole,
  baseDir: string,
) => TokenSource | Promise<TokenSource>;

/** Null if missing. */
type Sources = Record<DataRole, TokenSource | null>;

/** Opens each data configuration once, and checks each use of it once; problems become warnings. */
export class PlannedData {
  private readonly found: string[] = [];
  private readonly opened = new Map<string, Sources>();
  private readonly checked = new Set<string>();

  constructor(
    private readonly baseDir: string,
    private readonly open: OpenTokens,
  ) {}

  /** In the order in which they were found, each once. */
  get warnings(): string[] {
    return [...new Set(this.found)];
  }

  /** Tokens of the training data of a run that was added; null if it is missing. */
  trainTokens({ spec }: PlannedRun): number | null {
    return this.opened.get(canonicalJson(spec.data))?.train?.tokens ?? null;
  }

  async add({ spec, status }: PlannedRun): Promise<void> {
    const { data, model, evaluation } = spec;
    const key = canonicalJson(data);
    const sources = this.opened.get(key) ?? (await this.openAll(data));
    this.opened.set(key, sources);
    const use = canonicalJson([data, model.sequence_length, evaluation.sequences]);
    if (status === 'skipped' || this.checked.has(use)) return;
    this.checked.add(use);
    const { train, heldout } = sources;
    const short = [
      ...tooShort('training', train, model.sequence_length),
      ...tooShort('held-out', heldout, model.sequence_length),
    ];
    this.found.push(...short);
    if (train === null || heldout === null || short.length > 0) return;
    const check = async () => this.found.push(...heldoutWarnings(train, heldout, heldoutUse(spec)));
    await this.attempt('mod sweep rejects the data', check);
  }

  close(): void {
    for (const { train, heldout } of this.opened.values()) {
      train?.close();
      heldout?.close();
    }
  }

  private async openAll(data: DataConfig): Promise<Sources> {
    const train = await this.openOne(data, 'train', 'no training data, epochs are unknown');
    const heldout = await this.openOne(data, 'heldout', 'no held-out data');
    await this.attempt('no tokenizer', async () => dataTokenizer(data, this.baseDir));
    return { train, heldout };
  }

  private openOne(data: DataConfig, role: DataRole, problem: string): Promise<TokenSource | null> {
    return this.attempt(problem, async () => this.open(data, role, this.baseDir));
  }

  /** Returns null and adds a warning if `act` throws an InputError. */
  private async attempt<T>(problem: string, act: () => Promise<T>): Promise<T | null> {
    try {
      return await act();
    } catch (error) {
      if (!(error instanceof InputError)) throw error;
      this.found.push(`${problem}: ${error.message}`);
      return null;
    }
  }
}

/** A warning for data shorter than one sequence, which mod sweep rejects. */
function tooShort(what: string, source: TokenSource | null, sequenceLength: number): string[] {
  if (source === null || source.tokens > sequenceLength) return [];
  return [
    `the ${what} data is too short, mod sweep rejects it: ${count(source.tokens)} tokens, at least ${count(sequenceLength + 1)} are required for a sequence of ${sequenceLength} and its last target`,
  ];
}
