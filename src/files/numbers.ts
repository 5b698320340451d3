/** Numbers in CSV and JSON as pandas, R, jq and spreadsheets read them: as numbers, whatever their size. */

/** The first whole number that a signed integer of 64 bits cannot have. */
const BEYOND_INT64 = 2 ** 63;

/**
 * A number as JavaScript prints it, from 2⁶³ on with an exponent: pandas reads a column with a longer whole number as text.
 * `1e+20`, not `100000000000000000000`; the value is the same.
 */
export function numberText(value: number): string {
  return Math.abs(value) >= BEYOND_INT64 && Number.isFinite(value) ? value.toExponential() : String(value);
}

/** JSON with these numbers; otherwise the same as JSON.stringify. */
export function jsonText(value: unknown, indentation?: number): string {
  // Texts are matched as well, so that digits inside them stay.
  return JSON.stringify(value, null, indentation).replace(/"(?:[^"\\]|\\.)*"|-?\d[\d.eE+-]*/g, (token) =>
    token.startsWith('"') ? token : numberText(Number(token)),
  );
}
