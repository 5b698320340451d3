/** Embedding and routing on cuda: which tokens, gathered, put back, and gradients without atomics. */
import type { Tensor } from '@tensorflow/tfjs-core';
import { embeddingGradKernel, embeddingKernel } from '../../ops/embedding.js';
import { gatedScatterAddGradKernel, gatedScatterAddKernel } from '../../ops/gated-scatter-add.js';
import { gatherTokensKernel, scatterTokensKernel } from '../../ops/gather-tokens.js';
import { normalDrawsKernel } from '../../ops/normal-draws.js';
import { routedGatherGradKernel } from '../../ops/routed-gather.js';
import {
  addRouterLogitsKernel,
  routerLogitsGradKernel,
  routerLogitsKernel,
} from '../../ops/router-logits.js';
import { selectTopKKernel } from '../../ops/select-top-k.js';
import { BYTES_PER_ELEMENT } from './backend.js';
import { type Call, registerCudaKernel, rowsOf } from './call.js';
import type { Address } from './driver.js';
import { gradForm, persistent, vectorOf, warpRows } from './elementwise.js';
import { address } from './kernels.js';
import { sumChunks, sumColumns } from './sums.js';

/** Pairs that a block sorts, as kernels/embedding.cu has it. */
const SORTED_BY_BLOCK = 2048;
const WARP = 32;
const DIGITS = 256;
const BITS_OF_DIGIT = 8;
/** Sorted tokens whose rows a block sums: few enough for many blocks, many enough for few runs that cross blocks. */
const RUN_CHUNK = 64;

export function registerTokens(): void {
  registerCudaKernel(routerLogitsKernel, (call, { x, weight }) => {
    const [tokens, width] = rowsOf(x);
    const r = call.make(x.shape.slice(0, 2), 'float32');
    call.launch('routing', `routerLogits${vectorOf(width)}`, warpRows(tokens), [
      address(call.activation(x)),
      address(call.float(weight)),
      address(call.at(r)),
      tokens,
      width,
    ]);
    return [r];
  });

  registerCudaKernel(addRouterLogitsKernel, (call, { x, branch, weight }) => {
    const [tokens, width] = rowsOf(x);
    const [sum, r] = [call.makeActivation(x.shape), call.make(x.shape.slice(0, 2), 'float32')];
    call.launch('routing', `addRouterLogits${vectorOf(width)}`, warpRows(tokens), [
      address(call.activation(x)),
      address(call.activation(branch)),
      address(call.float(weight)),
      address(call.at(sum)),
      address(call.at(r)),
      tokens,
      width,
    ]);
    return [sum, r];
  });

  registerCudaKernel(routerLogitsGradKernel, (call, { dr, x, weight, gradAccum }) => {
    const [tokens, width] = rowsOf(x);
    const { sum: dx, accumulate } = call.accumulator(gradAccum, x.shape, call.backend.activations);
    const [scale, w] = [call.float(dr), call.float(weight)];
    const form = gradForm(width);
    if (form === undefined) {
      call.launch('routing', 'routerLogitsGradAnyWidth', warpRows(tokens), [
        address(scale),
        address(w),
        address(call.at(dx)),
        tokens,
        width,
        accumulate,
      ]);
      return [dx, sumColumns(call, { dy: x, scale, rows: tokens, width, shape: weight.shape })];
    }
    const { name, shape } = persistent(call, 'routerLogitsGrad', form, Math.ceil(tokens / WARP), width);
    const partials = call.scratch(4 * shape.grid * width);
    call.launch('routing', name, shape, [
      address(scale),
      address(call.activation(x)),
      address(w),
      address(call.at(dx)),
      address(partials),
      tokens,
      width,
      accumulate,
    ]);
    return [dx, sumChunks(call, partials, shape.grid, weight.shape)[0] as Tensor];
  });

  registerCudaKernel(normalDrawsKernel, (call, { key, first }, { sequences, length }) => {
    const draws = call.make([sequences, length], 'float32');
    const groups = Math.ceil(length / 4);
    call.launch('routing', 'normalDraws', { grid: Math.ceil((sequences * groups) / 256), block: 256 }, [
      address(call.int(key)),
      address(call.int(first)),
      address(call.at(draws)),
      sequences,
      length,
      groups,
    ]);
    return [draws];
  });

  registerCudaKernel(selectTopKKernel, (call, { r }, { k }) => {
    const [batch, length] = r.shape as [number, number];
    const [indices, mask] = [call.make([batch, k], 'int32'), call.make(r.shape, 'float32')];
    call.launch('routing', 'selectTopK', { grid: batch, block: 1024 }, [
      address(call.float(r)),
      address(call.at(indices)),
      address(call.at(mask)),
      length,
      k,
    ]);
    return [indices, mask];
  });

  registerCudaKernel(gatherTokensKernel, (call, { x, indices }) => {
    const [batch, k] = indices.shape as [number, number];
    const [, length, width] = x.shape as [number, number, number];
    const rows = call.makeActivation([batch, k, width]);
    call.launch('routing', `gather${vectorOf(width)}`, warpRows(batch * k), [
      address(call.activation(x)),
      address(call.int(indices)),
      address(call.at(rows)),
      batch * k,
      k,
      length,
      width,
    ]);
    return [rows];
  });

  registerCudaKernel(scatterTokensKernel, (call, { rows, indices, gradAccum }, { length }) => {
    const [batch, , width] = rows.shape as [number, number, number];
    const { sum: y, accumulate } = call.accumulator(
      gradAccum,
      [batch, length, width],
      call.backend.activations,
    );
    if (!accumulate)
      call.backend.driver.zero(call.at(y), y.size * BYTES_PER_ELEMENT[call.backend.activations]);
    scatterAdd(call, rows, indices, null, call.at(y), length, false);
    return [y];
  });

  registerCudaKernel(routedGatherGradKernel, (call, { dr, drows, rows, indices, weight, gradAccum }) => {
    const [batch, k, width] = rows.shape as [number, number, number];
    const length = dr.shape[1] as number;
    const { activations, driver } = call.backend;
    const { sum: dx, accumulate } = call.accumulator(gradAccum, [batch, length, width], activations);
    if (!accumulate) driver.zero(call.at(dx), dx.size * BYTES_PER_ELEMENT[activations]);
    const [ofTokens, gradient] = [address(call.float(dr)), address(call.activation(drows))];
    const [at, w] = [address(call.int(indices)), address(call.float(weight))];
    const sizes = [batch * k, k, length, width];
    const form = gradForm(width);
    if (form === undefined) {
      const scale = call.scratch(4 * batch * k);
      const args = [ofTokens, gradient, at, w, address(call.at(dx)), address(scale), ...sizes];
      call.launch('routing', 'routedGatherGradAnyWidth', warpRows(batch * k), args);
      return [dx, sumColumns(call, { dy: rows, scale, rows: batch * k, width, shape: weight.shape })];
    }
    const { name, shape } = persistent(call, 'routedGatherGrad', form, batch * k, width);
    const partials = call.scratch(4 * shape.grid * width);
    const taken = address(call.activation(rows));
    const args = [ofTokens, gradient, taken, at, w, address(call.at(dx)), address(partials), ...sizes];
    call.launch('routing', name, shape, args);
    return [dx, sumChunks(call, partials, shape.grid, weight.shape)[0] as Tensor];
  });

  registerCudaKernel(gatedScatterAddKernel, (call, { x, rows, r, indices }, { gate, inPlace }) => {
    const { activations } = call.backend;
    const out = inPlace ? call.overwrite(x, activations) : call.copy(x, activations);
    scatterAdd(call, rows, indices, call.float(r), call.at(out), x.shape[1] as number, gate === 'sigmoid');
    return [out];
  });

  registerCudaKernel(gatedScatterAddGradKernel, (call, { dout, rows, r, indices }, { gate }) => {
    const [batch, k] = indices.shape as [number, number];
    const [, length, width] = dout.shape as [number, number, number];
    const [drows, dr] = [call.makeActivation(rows.shape), call.make(r.shape, 'float32')];
    call.backend.driver.zero(call.at(dr), 4 * r.size);
    call.launch('routing', `scatterAddGrad${vectorOf(width)}`, warpRows(batch * k), [
      address(call.activation(dout)),
      address(call.activation(rows)),
      address(call.float(r)),
      address(call.int(indices)),
      address(call.at(drows)),
      address(call.at(dr)),
      batch * k,
      k,
      length,
      width,
      gate === 'sigmoid' ? 1 : 0,
    ]);
    return [drows, dr];
  });

  registerCudaKernel(embeddingKernel, (call, { table, tokens }) => {
    const [, width] = rowsOf(table);
    const y = call.makeActivation([...tokens.shape, width]);
    call.launch('embedding', `embedding${vectorOf(width)}`, warpRows(tokens.size), [
      address(call.float(table)),
      address(call.int(tokens)),
      address(call.at(y)),
      tokens.size,
      width,
    ]);
    return [y];
  });

  registerCudaKernel(embeddingGradKernel, (call, { dy, tokens, gradAccum }, { vocabSize }) => {
    const [count, width] = rowsOf(dy);
    const { sum: dtable, accumulate } = call.accumulator(gradAccum, [vocabSize, width], 'float32');
    if (!accumulate) call.backend.driver.zero(call.at(dtable), 4 * vocabSize * width);
    const { keys, places } = sorted(call, call.int(tokens), count, vocabSize);
    const chunks = Math.ceil(count / RUN_CHUNK);
    const heads = address(call.scratch(4 * chunks * width));
    const tails = address(call.scratch(4 * chunks * width));
    const vector = width % 2 === 0 ? 2 : 1;
    const block = Math.min(256, WARP * Math.ceil(width / vector / WARP));
    const shape = { grid: [chunks, Math.ceil(width / vector / block), 1], block } as const;
    const sizes = [count, width, RUN_CHUNK];
    const table = address(call.at(dtable));
    const from = [address(call.activation(dy)), address(keys), address(places)];
    call.launch('embedding', `sumRuns${vector}`, shape, [...from, table, heads, tails, ...sizes]);
    call.launch('embedding', `joinRuns${vector}`, shape, [address(keys), table, heads, tails, ...sizes]);
    return [dtable];
  });
}

function scatterAdd(
  call: Call,
  rows: Tensor,
  indices: Tensor,
  r: Address | null,
  y: Address,
  length: number,
  isSigmoid: boolean,
): void {
  const [batch, k, width] = rows.shape as [number, number, number];
  call.launch('routing', `scatterAdd${vectorOf(width)}`, warpRows(batch * k), [
    address(call.activation(rows)),
    address(call.int(indices)),
    address(r),
    address(y),
    batch * k,
    k,
    length,
    width,
    isSigmoid ? 1 : 0,
  ]);
}

/** The tokens in ascending order, equal ones by place, and the place of each. Tokens are below `limit`. */
function sorted(
  call: Call,
  tokens: Address,
  count: number,
  limit: number,
): { keys: Address; places: Address } {
  const blocks = Math.ceil(count / SORTED_BY_BLOCK);
  const counts = call.scratch(4 * DIGITS * blocks);
  const passes = Math.max(1, Math.ceil(Math.ceil(Math.log2(limit)) / BITS_OF_DIGIT));
  const shape = { grid: blocks, block: DIGITS };
  let [keys, places]: [Address, Address | null] = [tokens, null];
  for (let pass = 0; pass < passes; pass++) {
    const shift = BITS_OF_DIGIT * pass;
    const [keysOut, placesOut] = [call.scratch(4 * count), call.scratch(4 * count)];
    call.launch('embedding', 'countDigits', shape, [address(keys), address(counts), count, shift]);
    call.launch('embedding', 'scanCounts', { grid: 1, block: 1024 }, [address(counts), DIGITS * blocks]);
    call.launch('embedding', 'moveByDigit', shape, [
      address(keys),
      address(places),
      address(counts),
      address(keysOut),
      address(placesOut),
      count,
      shift,
    ]);
    [keys, places] = [keysOut, placesOut];
  }
  return { keys, places: places as Address };
}
