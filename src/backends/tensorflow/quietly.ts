/** Loads TensorFlow without its notices on stderr; errors are still thrown. */
import { closeSync, openSync } from 'node:fs';
import { koffi } from '../../ffi.js';

const STDERR = 2;

/**
 * Calls `load`, which loads TensorFlow. The log level is lowered; notices that are printed before it is read (two lines in
 * version 2.21) are discarded, since stderr is redirected to /dev/null during the call.
 */
export function quietly(load: () => void): void {
  process.env.TF_CPP_MIN_LOG_LEVEL ??= '3';
  const libc = koffi.load(null);
  const duplicate = libc.func('dup', 'int', ['int']) as (file: number) => number;
  const replace = libc.func('dup2', 'int', ['int', 'int']) as (file: number, target: number) => number;
  const kept = duplicate(STDERR);
  const devNull = openSync('/dev/null', 'w');
  replace(devNull, STDERR);
  try {
    load();
  } finally {
    replace(kept, STDERR);
    closeSync(kept);
    closeSync(devNull);
  }
}
