/** How the tokens of a step are distributed over the experts, as shares. */
import { type ExpertsConfig, expertChoices } from '../model/config.js';
import { mean } from '../statistics.js';

/** Shares of the tokens that reach a block's experts: numbers from 0 to 1, means over blocks. */
export interface ExpertShares {
  /** Of tokens that chose each expert, in each block from the most chosen to the least. */
  load: number[];
  /** Of tokens that chose an expert without a free slot. */
  dropped: number;
  /** Of tokens that chose a no-op; null without no-ops. */
  noOp: number | null;
}

/**
 * The shares that follow from the counts of a step.
 *
 * @param counts [blocks, C + E]: in each block the tokens that made each choice, experts first, then those that each expert
 *   processed
 */
export function expertShares(counts: ArrayLike<number>, experts: ExpertsConfig): ExpertShares {
  const [choices, { count }] = [expertChoices(experts), experts];
  const width = choices + count;
  const blocks = Array.from({ length: counts.length / width }, (_, block) => {
    const row = Array.from({ length: width }, (_, i) => counts[block * width + i] as number);
    const sum = (from: number, to: number) => row.slice(from, to).reduce((a, b) => a + b, 0);
    const tokens = sum(0, choices);
    return {
      load: row
        .slice(0, count)
        .sort((a, b) => b - a)
        .map((chosen) => chosen / tokens),
      dropped: (sum(0, count) - sum(choices, width)) / tokens,
      noOp: sum(count, choices) / tokens,
    };
  });
  return meanShares(blocks.map((block) => (experts.no_ops > 0 ? block : { ...block, noOp: null })));
}

/** The mean of each field over one or more shares. */
export function meanShares(shares: readonly ExpertShares[]): ExpertShares {
  const [first] = shares as [ExpertShares];
  const noOps = shares.flatMap(({ noOp }) => noOp ?? []);
  return {
    load: first.load.map((_, i) => mean(shares.map(({ load }) => load[i] as number))),
    dropped: mean(shares.map(({ dropped }) => dropped)),
    noOp: noOps.length === 0 ? null : mean(noOps),
  };
}
