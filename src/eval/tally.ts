/** Counts of what one routed block and its predictor decided, over tokens, and the scores that follow from them. */

export interface BlockTally {
  /** Tokens that took part. */
  member: number;
  /** Σ over sequences of the square of their number: attention costs by it. */
  memberSquares: number;
  /** Tokens for which the predictor said what was so. */
  agreed: number;
  /** Tokens for which it said 'take'. */
  positive: number;
  /** And was right. */
  truePositive: number;
}

/** How the predictor's answers compare with membership of the top-k set, over tokens and routed blocks. */
export interface PredictorScore {
  accuracy: number;
  /** Accuracy of always answering 'skip'. */
  alwaysSkip: number;
  /** Null where the predictor never says 'take'. */
  precision: number | null;
  recall: number | null;
}

export function emptyTally(): BlockTally {
  return { member: 0, memberSquares: 0, agreed: 0, positive: 0, truePositive: 0 };
}

/** @param tokens that each block decided on */
export function scorePredictor(tallies: readonly BlockTally[], tokens: number): PredictorScore {
  const sum = (key: keyof BlockTally) => tallies.reduce((total, tally) => total + tally[key], 0);
  const decisions = tokens * tallies.length;
  const [member, positive, truePositive] = [sum('member'), sum('positive'), sum('truePositive')];
  return {
    accuracy: sum('agreed') / decisions,
    alwaysSkip: (decisions - member) / decisions,
    precision: positive === 0 ? null : truePositive / positive,
    recall: member === 0 ? null : truePositive / member,
  };
}
