/** Evaluation in the causal modes on the fake driver: any number of selected tokens measures no product, and few shapes occur. */
import { afterEach, expect, it, vi } from 'vitest';
import { nameOf, type Product } from '../../../src/backends/cuda/driver/cublas.js';
import { parseShape } from '../../../src/bench/shape.js';
import { HeldoutWindows } from '../../../src/data/batches.js';
import { evaluate } from '../../../src/eval/heldout.js';
import { roundedRows } from '../../../src/ops/varying-shapes.js';
import { randomStream } from '../../../src/random.js';
import { zeroTokens } from '../../support/evaluated-training.js';
import { type FakeCuda, startFakeCuda } from '../../support/fake-cuda.js';
import { fakeModel } from '../../support/fake-training.js';

let started: FakeCuda | null = null;
afterEach(() => started?.close());

it('rounds rows up to eight numbers for each power of two, by an eighth at most', () => {
  const rounded = new Set<number>();
  for (let rows = 1; rows <= 65536; rows++) {
    const up = roundedRows(rows);
    rounded.add(up);
    expect(up).toBeGreaterThanOrEqual(rows);
    if (rows > 128) expect(up).toBeLessThan(1.126 * rows);
    expect(roundedRows(up)).toBe(up);
  }
  expect(rounded.size).toBeLessThan(90);
});

it.each(['d64l4t128b16v256c0.25f2', 'd64l4t128b16v256c0.25f2e4'])('%s', async (shape) => {
  started = await startFakeCuda();
  const { backend, device } = started;
  const { model: config } = parseShape(shape);
  const model = fakeModel(started, config);
  const [sequences, batchSequences] = [40 * 16 + 5, 16];
  const windows = new HeldoutWindows(
    zeroTokens(sequences * config.sequence_length + 1),
    config.sequence_length,
  );
  const names = new Set<string>();
  const multiply = backend.cublas.multiply.bind(backend.cublas);
  vi.spyOn(backend.cublas, 'multiply').mockImplementation((product: Product, ...operands) => {
    names.add(nameOf(product));
    multiply(product, ...operands);
  });
  // The fake device computes nothing: logits of the decisions, and losses, are drawn.
  const stream = randomStream(1, 'packed-evaluation');
  let above = 0.25;
  const read = backend.readSync.bind(backend);
  vi.spyOn(backend, 'readSync').mockImplementation((id) => {
    above = 0.05 + 0.4 * stream.uniform();
    return (read(id) as Float32Array).map(() => (stream.uniform() < above ? 1 : -1));
  });
  const evaluated = async (mode: 'topk' | 'predictor') => {
    names.clear();
    const result = await evaluate(model, windows, { mode, sequences, batchSequences, seed: 0 });
    return { result, products: names.size, timed: device.calls.get('cuEventElapsedTime') ?? 0 };
  };
  const whole = await evaluated('topk');
  expect(whole.timed).toBeGreaterThan(0); // training's shapes are measured
  const causal = await evaluated('predictor');
  expect(causal.result.sequences).toBe(sequences);
  expect(causal.timed).toBe(whole.timed);
  // 80 batches of different numbers of tokens in two routed blocks: within a power of four, so about 16 numbers.
  expect(causal.products).toBeLessThan(whole.products + 5 * 20);
  model.dispose();
});
