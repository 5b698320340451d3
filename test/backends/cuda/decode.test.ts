/** Decoding on the device: each step and drawn token against float64 on the host, whole texts against decoding op by op. */
import { memory, type Tensor, tensor, tensor2d } from '@tensorflow/tfjs-core';
import { describe, expect, it } from 'vitest';
import { CudaDecodeLoops } from '../../../src/backends/cuda/kernels/decode.js';
import { loadModel } from '../../../src/checkpoint/model.js';
import { type GenerateOptions, generate, sample } from '../../../src/eval/generate.js';
import { CAUSAL_MODES, routedBlocks } from '../../../src/model/config.js';
import type { DecodeLoop, DecodeLoops, LoopBlock, LoopModel } from '../../../src/ops/decode-loop.js';
import { GATE_NAMES, GATES, type Gate } from '../../../src/ops/gates.js';
import { rotaryTable } from '../../../src/ops/rotary.js';
import { scope } from '../../../src/ops/scope.js';
import { randomStream } from '../../../src/random.js';
import { cuda, useCuda } from '../../support/cuda.js';
import { randomValues, relativeError } from '../../support/numbers.js';

/** float32 sums in another order, through three blocks; bf16 has eight bits of precision, and rounds between them. */
const TOLERANCE = { fp32: 1e-4, bf16: 4e-2 } as const;
/** A routing decision may differ if its logit is this close to 0. */
const UNDECIDED = { fp32: 1e-4, bf16: 0.1 } as const;

interface Sides {
  S: number;
  D: number;
  H: number;
  F: number;
  V: number;
  /** Size of the predictor; 0: the router decides. */
  P: number;
  /** Added to every decision's logit: far below 0 selects no token, far above 0 every token. */
  bias: number;
  gate: Gate;
  /** The threshold of the router weight; 0 if absent. */
  above?: number;
}

const SIDES: Sides[] = [
  ...GATE_NAMES.map((gate) => ({ S: 3, D: 32, H: 4, F: 64, V: 40, P: 0, bias: 0, gate })),
  { S: 1, D: 64, H: 2, F: 256, V: 100, P: 0, bias: 0, gate: 'raw', above: 0.4 },
  { S: 20, D: 64, H: 1, F: 256, V: 40, P: 0, bias: 0, gate: 'raw', above: -0.4 },
  { S: 3, D: 64, H: 1, F: 256, V: 40, P: 0, bias: 100, gate: 'raw', above: Number.NEGATIVE_INFINITY },
  { S: 1, D: 64, H: 2, F: 256, V: 100, P: 16, bias: 0, gate: 'raw' },
  { S: 1, D: 64, H: 2, F: 256, V: 100, P: 16, bias: -100, gate: 'raw' },
  { S: 1, D: 320, H: 5, F: 1280, V: 256, P: 64, bias: 100, gate: 'sigmoid' },
  { S: 1, D: 256, H: 1, F: 264, V: 40, P: 16, bias: 100, gate: 'raw' }, // several blocks share a head
  { S: 3, D: 72, H: 3, F: 136, V: 51, P: 5, bias: 0, gate: 'raw' },
  { S: 20, D: 128, H: 1, F: 256, V: 40, P: 16, bias: 100, gate: 'raw' },
  { S: 20, D: 64, H: 1, F: 256, V: 3000, P: 16, bias: -100, gate: 'raw' },
  { S: 20, D: 64, H: 1, F: 2048, V: 40, P: 16, bias: 0, gate: 'raw' }, // ... and a column's k
  { S: 64, D: 64, H: 2, F: 256, V: 100, P: 16, bias: 0, gate: 'raw' },
  { S: 64, D: 192, H: 3, F: 768, V: 1003, P: 64, bias: 100, gate: 'raw' },
  { S: 70, D: 256, H: 1, F: 264, V: 40, P: 16, bias: 100, gate: 'sigmoid' },
];
const BLOCKS = 3; // the middle one is routed
const STEPS = 4;
const SLOTS = 40;

/** The same numbers on the host and on the device. */
interface Values {
  [name: string]: Float32Array;
}

function valuesOf({ S, D, F, V, P, bias }: Sides): Values {
  const values: Values = {};
  const add = (name: string, size: number, scale: number, shift = 0) => {
    values[name] = randomValues(size, name, D, S).map((x) => scale * x + shift);
  };
  add('embedding', V * D, 1);
  add('head', V * D, 1 / Math.sqrt(D));
  add('finalNorm', D, 0.2, 1);
  for (let b = 0; b < BLOCKS; b++) {
    add(`${b} attnNorm`, D, 0.2, 1);
    add(`${b} mlpNorm`, D, 0.2, 1);
    add(`${b} qkv`, 3 * D * D, 1 / Math.sqrt(D));
    add(`${b} attnOut`, D * D, 1 / Math.sqrt(D));
    add(`${b} up`, F * D, 1 / Math.sqrt(D));
    add(`${b} down`, F * D, 1 / Math.sqrt(F));
    add(`${b} kv`, S * SLOTS * 2 * D, 1);
  }
  add('router', D, 1 / Math.sqrt(D));
  add('fc1', P * D, 1 / Math.sqrt(D));
  add('fc1Bias', P, 1);
  add('fc2', P, 1 / Math.sqrt(P));
  add('fc2Bias', 1, 0.1, bias);
  return values;
}

function modelOf(sides: Sides, values: Values): LoopModel {
  const { D, H, F, V, P, gate, above } = sides;
  const at = (name: string, shape: number[]) => tensor(values[name] as Float32Array, shape);
  const block = (b: number): LoopBlock => ({
    attnNorm: at(`${b} attnNorm`, [D]),
    qkv: at(`${b} qkv`, [3 * D, D]),
    attnOut: at(`${b} attnOut`, [D, D]),
    mlpNorm: at(`${b} mlpNorm`, [D]),
    up: at(`${b} up`, [F, D]),
    down: at(`${b} down`, [D, F]),
    routed:
      b !== 1
        ? null
        : {
            router: at('router', [1, D]),
            predictor:
              P === 0
                ? null
                : {
                    fc1: at('fc1', [P, D]),
                    fc1Bias: at('fc1Bias', [P]),
                    fc2: at('fc2', [1, P]),
                    fc2Bias: at('fc2Bias', [1]),
                  },
            ...(above === undefined ? {} : { above }),
          },
  });
  return {
    tokenEmbedding: at('embedding', [V, D]),
    blocks: Array.from({ length: BLOCKS }, (_, b) => block(b)),
    finalNorm: at('finalNorm', [D]),
    head: at('head', [V, D]),
    table: rotaryTable(SLOTS + STEPS + 1, D / H),
    heads: H,
    residualMultiplier: RESIDUAL,
    logitsMultiplier: LOGITS,
    gate,
    maxTokens: SLOTS + STEPS,
  };
}

/** Factors of the outputs of attention and MLP, and of the logits. */
const [RESIDUAL, LOGITS] = [0.8, 1.25];
const scaled = (x: number[], factor: number) => x.map((a) => a * factor);

const row = (values: ArrayLike<number>, i: number, width: number) =>
  Array.from({ length: width }, (_, j) => values[i * width + j] as number);
const times = (w: ArrayLike<number>, x: number[], rows: number) =>
  Array.from({ length: rows }, (_, i) =>
    x.reduce((sum, a, j) => sum + a * (w[i * x.length + j] as number), 0),
  );
const norm = (x: number[], gain: ArrayLike<number>) => {
  const scale = 1 / Math.sqrt(x.reduce((sum, a) => sum + a * a, 0) / x.length + 1e-6);
  return x.map((a, i) => a * scale * (gain[i] as number));
};
const gelu = (x: number) => (x * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3)))) / 2;
const plus = (x: number[], y: number[], scale = 1) => x.map((a, i) => a + scale * (y[i] as number));

/** One sequence, in float64, block by block; keys and values as they are cached. */
class Reference {
  private readonly cached: { key: number[]; value: number[] }[][];

  constructor(
    private readonly sides: Sides,
    private readonly values: Values,
    sequence: number,
    lengths: number[],
  ) {
    const { D } = sides;
    this.cached = lengths.map((length, b) =>
      Array.from({ length }, (_, t) => {
        const kv = row(values[`${b} kv`] as Float32Array, sequence * SLOTS + t, 2 * D);
        return { key: kv.slice(0, D), value: kv.slice(D) };
      }),
    );
  }

  /** The routing logit of a token and the logits after it, given the device's routing decision. */
  step(token: number, position: number, selected: boolean): { decision: number; logits: number[] } {
    const { D, V, P, gate, above = 0 } = this.sides;
    const of = (name: string) => this.values[name] as Float32Array;
    let x = row(of('embedding'), token, D);
    let decision = 0;
    for (let b = 0; b < BLOCKS; b++) {
      const [r] = times(of('router'), x, 1) as [number];
      if (b === 1) {
        const hidden = times(of('fc1'), x, P).map((h, i) => gelu(h + (of('fc1Bias')[i] as number)));
        decision =
          P === 0 ? r - above : (times(of('fc2'), hidden, 1)[0] as number) + (of('fc2Bias')[0] as number);
        if (!selected) continue;
      }
      const attended = this.attend(b, norm(x, of(`${b} attnNorm`)), position);
      const branch = scaled(times(of(`${b} attnOut`), attended, D), RESIDUAL);
      const normed = norm(plus(x, branch), of(`${b} mlpNorm`));
      const hidden = times(of(`${b} up`), normed, this.sides.F).map(gelu);
      const added = plus(branch, times(of(`${b} down`), hidden, D), RESIDUAL);
      x = plus(x, added, b !== 1 ? 1 : GATES[gate].value(r));
    }
    return { decision, logits: scaled(times(of('head'), norm(x, of('finalNorm')), V), LOGITS) };
  }

  private attend(b: number, x: number[], position: number): number[] {
    const { D, H } = this.sides;
    const K = D / H;
    const qkv = times(this.values[`${b} qkv`] as Float32Array, x, 3 * D);
    const rotated = qkv.map((value, i) => {
      const c = i % K;
      if (i >= 2 * D) return value;
      const angle = position * 10000 ** (-(c % (K / 2)) / (K / 2));
      const partner = qkv[c < K / 2 ? i + K / 2 : i - K / 2] as number;
      return value * Math.cos(angle) + (c < K / 2 ? -1 : 1) * partner * Math.sin(angle);
    });
    const tokens = this.cached[b] as { key: number[]; value: number[] }[];
    tokens.push({ key: rotated.slice(D, 2 * D), value: rotated.slice(2 * D) });
    return Array.from({ length: H }, (_, h) => {
      const q = rotated.slice(h * K, (h + 1) * K);
      const scores = tokens.map(({ key }) =>
        Math.exp(q.reduce((sum, a, i) => sum + a * (key[h * K + i] as number), 0) / Math.sqrt(K)),
      );
      const total = scores.reduce((sum, score) => sum + score, 0);
      return Array.from({ length: K }, (_, c) =>
        tokens.reduce(
          (sum, { value }, t) => sum + ((scores[t] as number) / total) * (value[h * K + c] as number),
          0,
        ),
      );
    }).flat();
  }
}

/** Cached tokens of a sequence in a block: different for each. */
const lengthOf = (sequence: number, block: number) => (sequence * 7 + block * 5 + 3) % SLOTS;

describe.skipIf(!cuda.usable).each(['fp32', 'bf16'] as const)('a step of the loop in %s', (precision) => {
  it.each(SIDES)(
    'is that of float64: $S sequences, D $D, $H heads, F $F, V $V, P $P, bias $bias, $gate',
    async (sides) => {
      const backend = await useCuda(precision);
      const { S, D, V, bias } = sides;
      const values = valuesOf(sides);
      const model = modelOf(sides, values);
      const positions = Int32Array.from({ length: S }, (_, s) => lengthOf(s, 0));
      const caches = Array.from({ length: BLOCKS }, (_, b) => ({
        kv: tensor(values[`${b} kv`] as Float32Array, [S, SLOTS, 2 * D]),
        lengths: Int32Array.from({ length: S }, (_, s) => lengthOf(s, b)),
      }));
      let tokens = Int32Array.from({ length: S }, (_, s) => (5 * s + 1) % V);
      const loops = new CudaDecodeLoops(backend);
      expect(loops.problem(model, S)).toBeNull();
      const sampling = { temperature: 1, topP: 0.9 };
      const loop = loops.start(model, { tokens, positions, caches, ...sampling });
      const references = Array.from(
        { length: S },
        (_, s) =>
          new Reference(
            sides,
            values,
            s,
            caches.map(({ lengths }) => lengths[s] as number),
          ),
      );
      const stream = randomStream(1, 'decode-test');
      let selections = 0;
      for (let step = 0; step < STEPS; step++) {
        const uniforms = Float64Array.from({ length: S }, () => stream.uniform());
        const result = await loop.run(uniforms);
        const logits = loop.logits();
        const actual = logits.dataSync() as Float32Array;
        logits.dispose();
        for (let s = 0; s < S; s++) {
          const selected = result.mask[s] === 1;
          selections += selected ? 1 : 0;
          const own = actual.subarray(s * V, (s + 1) * V);
          const expected = (references[s] as Reference).step(
            tokens[s] as number,
            (positions[s] as number) + step,
            selected,
          );
          expect(relativeError(own, expected.logits), `step ${step}, sequence ${s}`).toBeLessThan(
            TOLERANCE[precision],
          );
          if (Math.abs(expected.decision) > UNDECIDED[precision])
            expect(selected).toBe(expected.decision > 0);
          expect(result.tokens[s]).toBe(sample(own, sampling, () => uniforms[s] as number));
        }
        tokens = result.tokens as Int32Array<ArrayBuffer>;
      }
      if (bias !== 0) expect(selections).toBe(bias > 0 ? S * STEPS : 0);
      loop.dispose();
    },
  );
});

const CHECKPOINTS = ['baseline', 'mod-raw-f2', 'mod-sigmoid-f1-aux-untied', 'mod-raw-f2-head64'];
const SAMPLINGS = [
  { temperature: 0, topP: 1 },
  { temperature: 1, topP: 1 },
  { temperature: 0.7, topP: 0.8 },
];

describe.skipIf(!cuda.usable)('generating in the loop', () => {
  const options: GenerateOptions = {
    mode: 'predictor',
    tokens: 20, // more than one launch draws, and more than the initial slots of a routed block's cache
    temperature: 1,
    topP: 1,
    seed: 3,
    now: () => 0,
  };
  const promptsOf = (n: number) =>
    Array.from({ length: n }, (_, i) =>
      Int32Array.from({ length: 3 + 2 * i }, (_, t) => (7 * i + t * t + 1) % 32),
    );

  it.each(CHECKPOINTS.flatMap((name) => SAMPLINGS.map((sampling) => ({ name, ...sampling }))))(
    'gives the tokens of decoding op by op: $name, temperature $temperature, top-p $topP',
    async ({ name, temperature, topP }) => {
      const loops = new CudaDecodeLoops(await useCuda('fp32'));
      const model = loadModel(`test/golden/${name}`);
      model.thresholds = routedBlocks(model.config).map((_, i) => 0.1 - 0.2 * i); // the golden cases have none
      for (const mode of CAUSAL_MODES) {
        for (const n of [1, 3]) {
          const request = { ...options, mode, temperature, topP };
          const [plain, inLoop] = [
            await generate(model, promptsOf(n), request),
            await generate(model, promptsOf(n), { ...request, loops }),
          ];
          expect(inLoop.tokens).toEqual(plain.tokens);
          expect(inLoop.selected).toEqual(plain.selected);
          expect(inLoop.cacheBytes.used).toBe(plain.cacheBytes.used);
          expect(inLoop.cacheBytes.dense).toBe(plain.cacheBytes.dense);
        }
      }
      model.dispose();
    },
  );

  it.each(CHECKPOINTS)('has the logits of the full causal forward pass: %s', async (name) => {
    const backend = await useCuda('fp32');
    const model = loadModel(`test/golden/${name}`);
    const { vocab_size: V } = model.config;
    const [prompt] = promptsOf(1) as [Int32Array];
    const { loops, opened } = watched(new CudaDecodeLoops(backend));
    let last: Tensor | null = null;
    const { tokens } = await generate(model, [prompt], {
      ...options,
      loops: { ...loops, start: (...args) => keepLogits(loops.start(...args), (logits) => (last = logits)) },
    });
    expect(opened()).toBe(1);
    const read = Int32Array.from([...prompt, ...(tokens[0] as Int32Array).slice(0, -1)]);
    const full = scope(() =>
      model
        .forward(tensor2d(read, [1, read.length], 'int32'), { tape: null, mode: 'predictor', drawn: null })
        .logits.dataSync(),
    ) as Float32Array;
    const logits = (last as Tensor | null)?.dataSync() ?? [];
    expect(relativeError(logits, full.subarray((read.length - 1) * V))).toBeLessThan(1e-4);
    (last as Tensor | null)?.dispose();
    model.dispose();
  });

  it('reports tokens in order, gives the same for a seed and leaks no memory', async () => {
    const backend = await useCuda('fp32');
    const loops = new CudaDecodeLoops(backend);
    const model = loadModel('test/golden/mod-raw-f2');
    const reported: number[] = [];
    const once = () =>
      generate(model, promptsOf(1), { ...options, loops, onToken: (_, token) => void reported.push(token) });
    const first = await once();
    expect(reported).toEqual([...(first.tokens[0] as Int32Array)]);
    const [tensors, bytes] = [memory().numTensors, backend.memoryUse().current];
    expect((await once()).tokens).toEqual(first.tokens);
    expect(memory().numTensors).toBe(tensors);
    expect(backend.memoryUse().current).toBe(bytes);
    model.dispose();
  });

  it('is not used for experts', async () => {
    const { loops, opened } = watched(new CudaDecodeLoops(await useCuda('fp32')));
    const model = loadModel('test/golden/moe');
    const { tokens } = await generate(model, [Int32Array.of(1, 2)], { ...options, tokens: 4, loops });
    expect(tokens[0]).toHaveLength(4);
    expect(opened()).toBe(0);
    model.dispose();
  });
});

/** Loops that count how many were started. */
function watched(inner: CudaDecodeLoops): { loops: DecodeLoops; opened: () => number } {
  let count = 0;
  const loops: DecodeLoops = {
    problem: (...args) => inner.problem(...args),
    start: (...args) => {
      count += 1;
      return inner.start(...args);
    },
  };
  return { loops, opened: () => count };
}

/** A loop that passes its last logits to `onLogits` before it is disposed. */
function keepLogits(loop: DecodeLoop, onLogits: (logits: Tensor) => void): DecodeLoop {
  return {
    ready: () => loop.ready(),
    run: (uniforms) => loop.run(uniforms),
    logits: () => loop.logits(),
    caches: () => loop.caches(),
    dispose: () => {
      onLogits(loop.logits());
      loop.dispose();
    },
  };
}
