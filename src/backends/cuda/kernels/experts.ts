/** Expert routing on the device: router, choice, dispatch and balance loss: experts.cu. The host never waits for it. */
import type { Tensor } from '@tensorflow/tfjs-core';
import { balanceLossGradKernel, balanceLossKernel } from '../../../ops/balance-loss.js';
import { dispatchTokensKernel } from '../../../ops/dispatch-tokens.js';
import { expertLogitsGradKernel, expertLogitsKernel } from '../../../ops/expert-logits.js';
import { top1ExpertGradKernel, top1ExpertKernel } from '../../../ops/top1-expert.js';
import { cudaKernel, rowsOf } from '../driver/call.js';
import { address } from '../driver/kernel-library.js';
import { elementThreads, vectorOf, WARP, warpRows } from './launch-shapes.js';
import { chunksOf, sumChunks } from './sums.js';

/** Choices that a block of the router's gradient sums at once, as in experts.cu. */
const TILE = 8;

const expertLogits = cudaKernel(expertLogitsKernel, (call, { x, weight }) => {
  const [tokens, width] = rowsOf(x);
  const choices = weight.shape[0] as number;
  const logits = call.make([...x.shape.slice(0, -1), choices], 'float32');
  call.launch('experts', `expertLogits${vectorOf(width)}`, warpRows(tokens), [
    address(call.activation(x)),
    address(call.float(weight)),
    address(call.at(logits)),
    tokens,
    width,
    choices,
  ]);
  return [logits];
});

const expertLogitsGrad = cudaKernel(expertLogitsGradKernel, (call, { dlogits, x, weight, gradAccum }) => {
  const [tokens, width] = rowsOf(x);
  const choices = weight.shape[0] as number;
  const { sum: dx, accumulate } = call.accumulator(gradAccum, x.shape, call.backend.activations);
  const gradient = call.float(dlogits);
  call.launch('experts', `expertLogitsGrad${vectorOf(width)}`, warpRows(tokens), [
    address(gradient),
    address(call.float(weight)),
    address(call.at(dx)),
    tokens,
    width,
    choices,
    accumulate,
  ]);
  const { chunks, rowsOfChunk } = chunksOf(tokens);
  const partials = call.scratch(4 * chunks * choices * width);
  const grid = [Math.ceil(width / WARP), chunks, Math.ceil(choices / TILE)] as const;
  call.launch('experts', 'expertWeightPartials', { grid, block: 256 }, [
    address(gradient),
    address(call.activation(x)),
    address(partials),
    tokens,
    width,
    choices,
    rowsOfChunk,
  ]);
  return [dx, sumChunks(call, partials, chunks, weight.shape)[0] as Tensor];
});

const top1Expert = cudaKernel(top1ExpertKernel, (call, { logits }) => {
  const [tokens, choices] = rowsOf(logits);
  const shape = logits.shape.slice(0, -1);
  const [probabilities, gate] = [call.make(logits.shape, 'float32'), call.make(shape, 'float32')];
  const choice = call.make(shape, 'int32');
  call.launch('experts', 'top1Expert', elementThreads(tokens), [
    address(call.float(logits)),
    address(call.at(probabilities)),
    address(call.at(gate)),
    address(call.at(choice)),
    tokens,
    choices,
  ]);
  return [probabilities, gate, choice];
});

const top1ExpertGrad = cudaKernel(top1ExpertGradKernel, (call, { probabilities, choice, dgate }) => {
  const [tokens, choices] = rowsOf(probabilities);
  const dlogits = call.make(probabilities.shape, 'float32');
  call.launch('experts', 'top1ExpertGrad', elementThreads(tokens), [
    address(call.float(probabilities)),
    address(call.int(choice)),
    address(call.float(dgate)),
    address(call.at(dlogits)),
    tokens,
    choices,
  ]);
  return [dlogits];
});

const dispatchTokens = cudaKernel(dispatchTokensKernel, (call, { choice }, { experts, choices, slots }) => {
  const [batch, n] = choice.shape as [number, number];
  const indices = call.make([1, experts * batch * slots], 'int32');
  const counts = call.make([choices + experts, batch], 'float32');
  call.launch('experts', 'dispatchTokens', warpRows(batch * choices), [
    address(call.int(choice)),
    address(call.at(indices)),
    address(call.at(counts)),
    batch,
    n,
    experts,
    choices,
    slots,
  ]);
  return [indices, counts];
});

const balanceLoss = cudaKernel(balanceLossKernel, (call, { probabilities, counts }, { balanced }) => {
  const [batch, n, choices] = probabilities.shape as [number, number, number];
  const [losses, sums] = [call.make([batch], 'float32'), call.make([batch, balanced], 'float32')];
  call.launch('experts', 'balanceLoss', { grid: batch, block: 1024 }, [
    address(call.float(probabilities)),
    address(call.float(counts)),
    address(call.at(losses)),
    address(call.at(sums)),
    batch,
    n,
    choices,
    balanced,
  ]);
  return [losses, sums];
});

const balanceLossGrad = cudaKernel(
  balanceLossGradKernel,
  (call, { probabilities, counts, sums, dlosses }, { balanced }) => {
    const [batch, n, choices] = probabilities.shape as [number, number, number];
    const dlogits = call.make(probabilities.shape, 'float32');
    call.launch('experts', 'balanceLossGrad', elementThreads(batch * n), [
      address(call.float(probabilities)),
      address(call.float(counts)),
      address(call.float(sums)),
      address(call.float(dlosses)),
      address(call.at(dlogits)),
      batch,
      n,
      choices,
      balanced,
    ]);
    return [dlogits];
  },
);

export const expertKernels = [
  expertLogits,
  expertLogitsGrad,
  top1Expert,
  top1ExpertGrad,
  dispatchTokens,
  balanceLoss,
  balanceLossGrad,
];
