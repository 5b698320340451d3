/** How much the crash tests do: a little in `npm test`, by the hundred in `npm run test:crash`. */
import { inject } from 'vitest';

declare module 'vitest' {
  export interface ProvidedContext {
    /** Whether this is `npm run test:crash`. */
    long: boolean;
  }
}

/** As many as either asks for. */
export function times(bounded: number, long: number): number {
  return inject('long') ? long : bounded;
}

/** A figure for docs/reliability.md: what was done, and how often. */
export function figure(what: string, count: number | string): void {
  console.info(`figure: ${what}: ${count}`);
}
