/** Functions of C libraries, through koffi, whose native part may be missing: npm leaves it out under --omit=optional. */
import { InputError } from './errors.js';

type Koffi = typeof import('koffi').default;

/** Null without the native part. */
const loaded: Koffi | null = await import('koffi').then(
  (module) => module.default,
  () => null,
);

/** Whether C functions can be called. */
export const hasNativeCalls = loaded !== null;

/** What is missing, and the command that installs it. */
export const NATIVE_PART_MISSING = `the native part of koffi is missing, an optional package that npm leaves out under --omit=optional: npm install @koromix/koffi-${process.platform}-${process.arch}`;

/** koffi; InputError with what to install on the first use without its native part. */
export const koffi: Koffi =
  loaded ??
  new Proxy({} as Koffi, {
    get: () => {
      throw new InputError(NATIVE_PART_MISSING);
    },
  });
