/** Linear least squares of a few unknowns by Cholesky's factorization of the normal equations. */

/** The solution of X·β = y with weights, and what inference needs of it. */
export interface LinearFit {
  beta: number[];
  /** (Xᵀ·W·X)⁻¹ */
  inverse: number[][];
}

/** A pivot below this share of its diagonal element marks a column that the earlier ones determine. */
const DEPENDENT = 1e-7;

/** The inverse of a symmetric positive definite matrix; null if it is singular. */
export function inverseOf(matrix: readonly (readonly number[])[]): number[][] | null {
  const n = matrix.length;
  const lower = Array.from({ length: n }, () => new Array<number>(n).fill(0));
  for (let j = 0; j < n; j++) {
    const column = lower[j] as number[];
    const row = matrix[j] as readonly number[];
    let pivot = row[j] as number;
    const scale = pivot;
    for (let k = 0; k < j; k++) pivot -= (column[k] as number) ** 2;
    if (!(pivot > DEPENDENT * scale)) return null;
    const root = Math.sqrt(pivot);
    column[j] = root;
    for (let i = j + 1; i < n; i++) {
      const other = lower[i] as number[];
      let sum = (matrix[i] as readonly number[])[j] as number;
      for (let k = 0; k < j; k++) sum -= (other[k] as number) * (column[k] as number);
      other[j] = sum / root;
    }
  }
  return Array.from({ length: n }, (_, unit) => {
    const x = new Array<number>(n).fill(0);
    for (let i = 0; i < n; i++) {
      let sum = i === unit ? 1 : 0;
      for (let k = 0; k < i; k++) sum -= ((lower[i] as number[])[k] as number) * (x[k] as number);
      x[i] = sum / ((lower[i] as number[])[i] as number);
    }
    for (let i = n - 1; i >= 0; i--) {
      let sum = x[i] as number;
      for (let k = i + 1; k < n; k++) sum -= ((lower[k] as number[])[i] as number) * (x[k] as number);
      x[i] = sum / ((lower[i] as number[])[i] as number);
    }
    return x;
  });
}

/** Null if the columns of X are not independent. */
export function leastSquares(
  rows: readonly (readonly number[])[],
  y: readonly number[],
  weights: readonly number[],
): LinearFit | null {
  const p = rows[0]?.length ?? 0;
  const normal = Array.from({ length: p }, () => new Array<number>(p).fill(0));
  const right = new Array<number>(p).fill(0);
  rows.forEach((row, r) => {
    const w = weights[r] as number;
    for (let i = 0; i < p; i++) {
      const wx = w * (row[i] as number);
      right[i] = (right[i] as number) + wx * (y[r] as number);
      const line = normal[i] as number[];
      for (let j = 0; j < p; j++) line[j] = (line[j] as number) + wx * (row[j] as number);
    }
  });
  const inverse = inverseOf(normal);
  return inverse && { inverse, beta: inverse.map((line) => dot(line, right)) };
}

export function dot(a: readonly number[], b: readonly number[]): number {
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += (a[i] as number) * (b[i] as number);
  return sum;
}
