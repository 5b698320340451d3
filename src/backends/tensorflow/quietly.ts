/** Loading TensorFlow without the notices that it prints: errors still arrive as exceptions. */
import { closeSync, openSync } from 'node:fs';
import koffi from 'koffi';

const STDERR = 2;

/**
 * Runs what loads TensorFlow. Its log level is turned down; the notices that are printed before it is read, two lines
 * of version 2.21, go nowhere because stderr does for as long as this takes.
 */
export function quietly(load: () => void): void {
  process.env.TF_CPP_MIN_LOG_LEVEL ??= '3';
  const libc = koffi.load(null);
  const duplicate = libc.func('dup', 'int', ['int']) as (file: number) => number;
  const replace = libc.func('dup2', 'int', ['int', 'int']) as (file: number, target: number) => number;
  const kept = duplicate(STDERR);
  const nowhere = openSync('/dev/null', 'w');
  replace(nowhere, STDERR);
  try {
    load();
  } finally {
    replace(kept, STDERR);
    closeSync(kept);
    closeSync(nowhere);
  }
}
