/**
 * examples/pytorch reads checkpoints as the program does: equal losses in every routing mode. Needs a Python that imports
 * torch and safetensors: MOD_PYTHON, else python3.
 */
import { execFile, spawnSync } from 'node:child_process';
import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type ChosenBackend, chooseBackend } from '../../src/backends/choose.js';
import { checkpointFolder } from '../../src/checkpoint/folder.js';
import { loadModel } from '../../src/checkpoint/model.js';
import { openTokenFile } from '../../src/data/tokens.js';
import { evaluateCheckpoint } from '../../src/eval/targets.js';
import { ROUTING_MODES } from '../../src/model/config.js';
import { weightsProblem } from '../../src/model/routing-modes.js';
import { VARIANTS } from '../../src/model/variants.js';
import { GATE_NAMES } from '../../src/ops/gates.js';
import { randomStream } from '../../src/random.js';
import { makeTinySweep, TINY_SWEEP, type TinySweep } from '../support/tiny-sweep.js';
import { runsOf, trainTiny } from '../support/tiny-training.js';

const PYTHON = process.env.MOD_PYTHON ?? 'python3';
const probe = spawnSync(PYTHON, ['-c', 'import torch, safetensors'], { encoding: 'utf8' });
const missing = probe.status === 0 ? null : (probe.error?.message ?? probe.stderr.trim().split('\n').at(-1));
if (missing !== null)
  console.log(`${PYTHON} cannot read checkpoints (${missing}): examples/pytorch is not tested`);

/** All variants except the random control, which draws its router weights by a generator of the program. */
const KINDS = Object.keys(VARIANTS).filter((variant) => variant !== 'random');
const EVERY_KIND = `${TINY_SWEEP.replace('[learned, random]', '[learned]')}
gates: [${GATE_NAMES.join(', ')}]
expert_variants: [moe, mode-staged, mode-integrated, moe-reduced]
experts: {count: 2}
`;

/** Initial weights are small; in these checkpoints every path matters. */
const GOLDEN = [
  'baseline',
  'mod-raw-f2',
  'complete-mod-raw-f2',
  'mod-sigmoid-f1-aux-untied',
  'moe',
  'mode-staged',
  'mode-integrated',
].map((name) => join('test/golden', name));
/** The smallest vocabulary among them. */
const VOCABULARY = 32;
const WINDOWS = 12;

/** Losses in nats per token, both sides in float32. */
const TOLERANCE = 1e-4;

/** A checkpoint and the tokens that it is evaluated on: bytes of a text, or numbers of 2 bytes. */
interface Subject {
  folder: string;
  tokens: string;
  tokenBytes: 1 | 2;
}

let backend: ChosenBackend;

/** Losses by mode, in every mode that the model has. */
type Losses = Record<string, number>;

async function evaluate({ folder, tokens, tokenBytes }: Subject): Promise<Losses> {
  const model = loadModel(folder);
  const { config } = model;
  model.dispose();
  const losses: Losses = {};
  for (const routing of ROUTING_MODES.filter((mode) => weightsProblem(model, mode) === null)) {
    const open = () => openTokenFile(tokens, tokenBytes, config.vocab_size);
    const options = { routing, autoregressive: false, sequences: undefined, backend, now: () => 0 };
    for (const { row } of await evaluateCheckpoint(folder, open, options)) losses[routing] = row.loss;
  }
  return losses;
}

const DRIVER = `
import json, sys
sys.path.insert(0, 'examples/pytorch')
from evaluate import evaluate, read_tokens
from model import load
found = []
for folder, tokens, size, modes in json.loads(sys.argv[1]):
    model, data = load(folder), read_tokens(tokens, size)
    found.append({mode: evaluate(model, data, mode) for mode in modes})
print(json.dumps(found))
`;

/** Starting Python and torch takes seconds: all checkpoints in one process. */
async function evaluateInPython(subjects: Subject[], losses: Losses[]): Promise<Losses[]> {
  const jobs = subjects.map(({ folder, tokens, tokenBytes }, i) => [
    folder,
    tokens,
    tokenBytes,
    Object.keys(losses[i] ?? {}),
  ]);
  const env = { ...process.env, OMP_NUM_THREADS: '1' }; // the tensors are small
  const { stdout } = await promisify(execFile)(PYTHON, ['-c', DRIVER, JSON.stringify(jobs)], { env });
  return JSON.parse(stdout) as Losses[];
}

describe.skipIf(missing !== null)('examples/pytorch', () => {
  let sweep: TinySweep;

  beforeAll(async () => {
    backend = await chooseBackend('wasm', 'fp32');
    sweep = makeTinySweep(EVERY_KIND, 'mod-pytorch-');
  });
  afterAll(() => rmSync(sweep.folder, { recursive: true }));

  async function compare(subjects: Subject[]): Promise<void> {
    const losses: Losses[] = [];
    for (const subject of subjects) losses.push(await evaluate(subject));
    const found = await evaluateInPython(subjects, losses);
    losses.forEach((modes, i) => {
      for (const [mode, loss] of Object.entries(modes)) {
        const difference = Math.abs((found[i]?.[mode] ?? Number.NaN) - loss);
        expect(difference, `${subjects[i]?.folder} ${mode}`).toBeLessThan(TOLERANCE);
      }
    });
  }

  it('gives the loss of mod eval for golden checkpoints, in every mode', async () => {
    const tokens = join(sweep.folder, 'tokens.bin');
    const random = randomStream(0, 'tokens');
    const drawn = Uint16Array.from({ length: WINDOWS * 32 + 1 }, () => random.bits() % VOCABULARY);
    writeFileSync(tokens, drawn);
    await compare(GOLDEN.map((folder) => ({ folder, tokens, tokenBytes: 2 })));
  }, 180_000);

  it('gives the loss of mod eval for a trained model of every kind, in every mode', async () => {
    const runs = runsOf(sweep);
    expect(new Set(runs.map(({ spec }) => spec.variant))).toEqual(new Set(KINDS));
    const subjects: Subject[] = [];
    for (const run of runs) {
      const folder = join(sweep.folder, run.run_id);
      await trainTiny(sweep, run, folder, { backend: 'wasm' });
      const checkpoint = checkpointFolder(folder, run.spec.steps);
      subjects.push({ folder: checkpoint, tokens: join(sweep.folder, 'heldout.txt'), tokenBytes: 1 });
    }
    await compare(subjects);
  }, 180_000);
});
