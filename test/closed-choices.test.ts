/** Adding a name to a closed choice makes the compiler report each place that must implement it, as docs/extending.md lists. */
import { spawnSync } from 'node:child_process';
import { cpSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';

interface Addition {
  file: string;
  /** A text of that file, and the same text with the new name. */
  before: string;
  after: string;
  /** Files in which the compiler reports the new name. */
  places: string[];
}

/** By the new name. */
const ADDITIONS: Record<string, Addition> = {
  addedGate: {
    file: 'ops/gates.ts',
    before: "GATE_NAMES = ['raw',",
    after: "GATE_NAMES = ['raw', 'addedGate',",
    places: ['backends/cuda/kernels/gate.ts', 'backends/tensorflow/gates.ts', 'ops/gates.ts'],
  },
  addedRouter: {
    file: 'model/config.ts',
    before: "ROUTER_NAMES = ['learned',",
    after: "ROUTER_NAMES = ['learned', 'addedRouter',",
    places: ['model/routers.ts'],
  },
  addedMode: {
    file: 'model/config.ts',
    before: "CAUSAL_MODES = ['predictor',",
    after: "CAUSAL_MODES = ['predictor', 'addedMode',",
    places: ['model/routing-modes.ts', 'report/figures/sampling.ts'],
  },
  addedSelector: {
    file: 'model/routing-modes.ts',
    before: "CausalSelector = 'router'",
    after: "CausalSelector = 'router' | 'addedSelector'",
    places: ['model/loop-decoder.ts', 'model/routing-modes.ts'],
  },
  addedFamily: {
    file: 'model/variants.ts',
    before: "VariantFamily = 'dense'",
    after: "VariantFamily = 'dense' | 'addedFamily'",
    places: ['report/figures/style.ts'],
  },
  added_planned: {
    file: 'results/columns.ts',
    before: "  run_id: { type: 'text' },\n  status:",
    after: "  run_id: { type: 'text' },\n  added_planned: { type: 'number', nullable: true },\n  status:",
    places: ['results/run-folder.ts'],
  },
  added_measured: {
    file: 'results/columns.ts',
    before: '  variant: {',
    after:
      "  added_measured: { type: 'number', nullable: true, measured: true, optional: true },\n  variant: {",
    places: ['run/execute-run.ts'],
  },
  added_evaluated: {
    file: 'results/columns.ts',
    before: '  sequences: {',
    after: "  added_evaluated: { type: 'number' },\n  sequences: {",
    places: ['eval/modes.ts', 'report/testable-claims.ts'],
  },
  added_step: {
    file: 'results/columns.ts',
    before: '  grad_norm: {',
    after: "  added_step: { type: 'number' },\n  grad_norm: {",
    places: ['results/thin.ts', 'run/step-log.ts'],
  },
  addedStatus: {
    file: 'results/run-status.ts',
    before: '  pending: {',
    after: "  addedStatus: { outcome: 'failed', isFinal: false },\n  pending: {",
    places: ['commands/status-view.ts', 'report/study.ts'],
  },
  addedPrecision: {
    file: 'backends/precisions.ts',
    before: "PRECISIONS = ['fp32',",
    after: "PRECISIONS = ['fp32', 'addedPrecision',",
    places: [
      'backends/cuda/driver/peak.ts',
      'backends/cuda/start.ts',
      'backends/tensorflow/linear.ts',
      'model/memory.ts',
    ],
  },
  addedTokenizer: {
    file: 'data/tokenizers.ts',
    before: "BUILT_IN_TOKENIZERS = ['bytes',",
    after: "BUILT_IN_TOKENIZERS = ['bytes', 'addedTokenizer',",
    places: ['data/tokenizers.ts'],
  },
  addedContent: {
    file: 'data/text-format.ts',
    before: "content: 'text' |",
    after: "content: 'text' | 'addedContent' |",
    places: ['data/documents.ts', 'data/inspect.ts'],
  },
  addedKeep: {
    file: 'config/checkpoint-policy.ts',
    before: "KEEP_FINAL = ['all',",
    after: "KEEP_FINAL = ['all', 'addedKeep',",
    places: ['checkpoint/disk-space.ts', 'checkpoint/pruning.ts'],
  },
  addedMessage: {
    file: 'run/messages.ts',
    before: 'export type RunMessage =',
    after: "export type RunMessage =\n  | { type: 'addedMessage'; runId: string }",
    places: ['sweep/display.ts'],
  },
};

const folder = mkdtempSync(join(tmpdir(), 'mod-closed-choices-'));
let reports: { file: string; text: string }[] = [];

beforeAll(() => {
  for (const part of ['package.json', 'src']) cpSync(part, join(folder, part), { recursive: true });
  symlinkSync(resolve('node_modules'), join(folder, 'node_modules'));
  const options = { rootDir: 'src', noEmit: true };
  writeFileSync(
    join(folder, 'tsconfig.json'),
    JSON.stringify({ extends: resolve('tsconfig.json'), compilerOptions: options, include: ['src'] }),
  );
  for (const { file, before, after } of Object.values(ADDITIONS)) {
    const path = join(folder, 'src', file);
    const parts = readFileSync(path, 'utf8').split(before);
    if (parts.length !== 2) throw new Error(`${file} has ${parts.length - 1} times: ${before}`);
    writeFileSync(path, parts.join(after));
  }
  const { stdout } = spawnSync(resolve('node_modules/.bin/tsc'), ['--pretty', 'false', '-p', folder], {
    cwd: folder,
    encoding: 'utf8',
  });
  reports = stdout.split(/^(?=src\/\S+\(\d+,\d+\): error )/m).flatMap(
    (text) =>
      /^src\/([^(]+)/
        .exec(text)
        ?.slice(1)
        .map((file) => ({ file, text })) ?? [],
  );
});

afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** Files with an error about this name: a property that is missing, or a value that no case handles. */
function placesOf(name: string): string[] {
  const about = new RegExp(`property '${name}'|"${name}"[^\n]* 'never'|${name}"?; [^\n]* 'never'`, 'i');
  return [...new Set(reports.flatMap(({ file, text }) => (about.test(text) ? [file] : [])))].sort();
}

describe('the compiler reports', () => {
  it.each(Object.entries(ADDITIONS))('%s where it must be implemented', (name, { places }) => {
    expect(placesOf(name)).toEqual(places);
  });

  it('no other file', () => {
    const places = Object.values(ADDITIONS).flatMap((addition) => addition.places);
    expect([...new Set(reports.map(({ file }) => file))].sort()).toEqual([...new Set(places)].sort());
  });
});
