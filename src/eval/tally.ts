/** Counts of the decisions of one routed block and its predictor over tokens, and the scores that follow from them. */

/** Numbers of tokens of one routed block. The names are those of an evaluation's progress file. */
export interface BlockTally {
  /** Selected tokens. */
  member: number;
  /** Σ over sequences of the square of their number, which attention's cost depends on. */
  memberSquares: number;
  /** Tokens whose selection the predictor predicts correctly. */
  agreed: number;
  /** Tokens that the predictor selects. */
  positive: number;
  /** Tokens that it selects and top-k selects too. */
  truePositive: number;
}

/** Agreement of the predictor with the top-k selection, over tokens and routed blocks. */
export interface PredictorScore {
  accuracy: number;
  /** Accuracy of never selecting. */
  alwaysSkip: number;
  /** Null if the predictor selects no token. */
  precision: number | null;
  /** Null if top-k selects no token. */
  recall: number | null;
}

export function emptyTally(): BlockTally {
  return { member: 0, memberSquares: 0, agreed: 0, positive: 0, truePositive: 0 };
}

/**
 * The scores of the predictors of all routed blocks together.
 *
 * @param tokens number of tokens that passed each block
 */
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
