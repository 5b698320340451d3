/** The number of repetitions of crash tests: few in `npm test`, hundreds in `npm run test:crash`. */
import { inject } from 'vitest';

declare module 'vitest' {
  export interface ProvidedContext {
    /** Whether this is `npm run test:crash`. */
    long: boolean;
  }
}

/** The number of repetitions for the current mode. */
export function times(bounded: number, long: number): number {
  return inject('long') ? long : bounded;
}

/** Prints a figure for docs/reliability.md. */
export function figure(what: string, count: number | string): void {
  console.info(`figure: ${what}: ${count}`);
}
