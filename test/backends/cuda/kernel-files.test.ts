/** The .cu files: each is compiled or included, and gate.cu has every gate. */
import { readdirSync, readFileSync } from 'node:fs';
import { expect, it } from 'vitest';
import { KERNEL_FILES } from '../../../src/backends/cuda/kernels/files.js';
import { GATE_CODES } from '../../../src/backends/cuda/kernels/gate.js';

const KERNELS = new URL('../../../src/backends/cuda/kernels/', import.meta.url);
const sourceOf = (file: string) => readFileSync(new URL(`${file}.cu`, KERNELS), 'utf8');

it('compiles or includes every .cu file', () => {
  const included = (text: string): string[] =>
    [...text.matchAll(/^#include "(.+)\.cu"$/gm)].flatMap(([, part = '']) => [
      part,
      ...included(sourceOf(part)),
    ]);
  const compiled = [...KERNEL_FILES, 'common', ...KERNEL_FILES.flatMap((file) => included(sourceOf(file)))];
  const files = readdirSync(KERNELS).flatMap((name) => (name.endsWith('.cu') ? [name.slice(0, -3)] : []));
  expect([...new Set(compiled)].sort()).toEqual(files.sort());
});

it.each(Object.entries(GATE_CODES))('gate.cu has a value and a slope of the gate %s', (gate, code) => {
  const name = `GATE_${gate.toUpperCase()}`;
  const source = sourceOf('gate');
  expect(source).toMatch(new RegExp(`^#define ${name} +${code}\\b`, 'm'));
  expect(source.match(new RegExp(`case ${name}:`, 'g'))).toHaveLength(2);
});
