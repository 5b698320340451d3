/** The .cu files of this folder and their source text, as NVRTC compiles it. */
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import type { ActivationStorage } from '../driver/storage.js';

/** The files that are compiled. The other .cu files are included: common.cu in all, the rest by name. */
export const KERNEL_FILES = [
  'attention',
  'decode',
  'elementwise',
  'embedding',
  'experts',
  'losses',
  'norm',
  'optimizer',
  'predictor',
  'routing',
  'rotary',
  'short-attention',
  'sums',
  'threshold',
] as const;
export type KernelFile = (typeof KERNEL_FILES)[number];

/** Source of a file: common.cu, then the file with its includes in place. There are no headers: NVRTC may find none. */
export function kernelSource(file: KernelFile): string {
  const read = (name: string): string => {
    const text = readFileSync(new URL(`./${name}.cu`, import.meta.url), 'utf8');
    return `#line 1 "${name}.cu"\n${text.replace(/^#include "(.+)\.cu"$/gm, (_, part: string) => read(part))}`;
  };
  return `${read('common')}\n${read(file)}`;
}

/** A digest of a file's source, for what is cached of its kernels' times. */
export function kernelDigest(file: KernelFile): string {
  return createHash('sha256').update(kernelSource(file)).digest('hex');
}

/** Compiler options for a storage of activations. */
export function kernelDefinitions(storage: ActivationStorage): string[] {
  return [`-DACTIVATIONS_BF16=${storage === 'bfloat16' ? 1 : 0}`];
}
