/** RMSNorm and its gradient: norm.cu. */
import type { Tensor } from '@tensorflow/tfjs-core';
import { addRmsNormKernel, rmsNormGradKernel, rmsNormKernel } from '../../../ops/rms-norm.js';
import { cudaKernel, rowsOf } from '../driver/call.js';
import { address } from '../driver/kernel-library.js';
import { persistentGrid, rowTiling, vectorOf, warpRows } from './launch-shapes.js';
import { sumChunks, sumColumns } from './sums.js';

const rmsNorm = cudaKernel(rmsNormKernel, (call, { x, gain }) => {
  const [rows, width] = rowsOf(x);
  const y = call.makeActivation(x.shape);
  const inverseRms = call.make(x.shape.slice(0, -1), 'float32');
  call.launch('norm', `rmsNorm${vectorOf(width)}`, warpRows(rows), [
    address(call.activation(x)),
    address(call.float(gain)),
    address(call.at(y)),
    address(call.at(inverseRms)),
    rows,
    width,
  ]);
  return [y, inverseRms];
});

/** The norm of a residual sum; the sum is an output as well. */
const addRmsNorm = cudaKernel(addRmsNormKernel, (call, { x, branch, gain }) => {
  const [rows, width] = rowsOf(x);
  const [sum, y] = [call.makeActivation(x.shape), call.makeActivation(x.shape)];
  const inverseRms = call.make(x.shape.slice(0, -1), 'float32');
  call.launch('norm', `addRmsNorm${vectorOf(width)}`, warpRows(rows), [
    address(call.activation(x)),
    address(call.activation(branch)),
    address(call.float(gain)),
    address(call.at(sum)),
    address(call.at(y)),
    address(call.at(inverseRms)),
    rows,
    width,
  ]);
  return [sum, y, inverseRms];
});

/** dx and the gain's gradient in one pass, or in two passes for widths without a tiling. */
const rmsNormGrad = cudaKernel(rmsNormGradKernel, (call, { dy, x, gain, inverseRms, gradAccum }) => {
  const [rows, width] = rowsOf(x);
  const { sum: dx, accumulate } = call.accumulator(gradAccum, x.shape, call.backend.activations);
  const scale = call.float(inverseRms);
  const inputs = [
    address(call.activation(dy)),
    address(call.activation(x)),
    address(call.float(gain)),
    address(scale),
  ];
  const tiling = rowTiling(width);
  if (tiling === null) {
    call.launch('norm', 'rmsNormGradAnyWidth', warpRows(rows), [
      ...inputs,
      address(call.at(dx)),
      rows,
      width,
      accumulate,
    ]);
    return [dx, sumColumns(call, { dy, x, scale, rows, width })];
  }
  const { name, shape } = persistentGrid(call, 'rmsNormGrad', tiling, rows, width);
  const partials = call.scratch(4 * shape.grid * width);
  call.launch('norm', name, shape, [
    ...inputs,
    address(call.at(dx)),
    address(partials),
    rows,
    width,
    accumulate,
  ]);
  return [dx, sumChunks(call, partials, shape.grid, [width])[0] as Tensor];
});

export const normKernels = [rmsNorm, addRmsNorm, rmsNormGrad];
