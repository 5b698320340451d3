/** Cross-entropy, entropy and binary cross-entropy: losses.cu. */
import { binaryCrossEntropyGradKernel } from '../../../ops/binary-cross-entropy.js';
import { crossEntropyGradKernel, crossEntropyKernel } from '../../../ops/cross-entropy.js';
import { entropyKernel } from '../../../ops/entropy.js';
import { cudaKernel, rowsOf } from '../driver/call.js';
import { address, float, long } from '../driver/kernel-library.js';
import { elementThreads, THREADS, vectorOf, warpRows } from './launch-shapes.js';

/** The cross-entropy of rows up to this width is computed by one warp each, of wider rows by one block each. */
const WIDEST_WARP_ROW = 2048;
/** Maximum number of blocks in a grid's second dimension. */
const MAX_GRID_Y = 65535;

const crossEntropy = cudaKernel(crossEntropyKernel, (call, { logits, targets }) => {
  const [rows, width] = rowsOf(logits);
  const [losses, logSumExp] = [call.make(targets.shape, 'float32'), call.make(targets.shape, 'float32')];
  const { at, pitch } = call.rows(logits);
  const short = width <= WIDEST_WARP_ROW;
  const shape = short ? warpRows(rows) : { grid: rows, block: THREADS };
  call.launch('losses', `crossEntropy${short ? 'Warp' : 'Block'}${vectorOf(pitch)}`, shape, [
    address(at),
    address(call.int(targets)),
    address(call.at(losses)),
    address(call.at(logSumExp)),
    rows,
    width,
    pitch,
  ]);
  return [losses, logSumExp];
});

/** dlogits are written over the logits, unless another tensor shares their memory. */
const crossEntropyGrad = cudaKernel(
  crossEntropyGradKernel,
  (call, { logits, targets, logSumExp, dlosses }) => {
    const [rows, width] = rowsOf(logits);
    const dlogits = call.reuse(logits, call.backend.activations);
    const { at, pitch } = call.rows(dlogits);
    const vector = vectorOf(pitch);
    const across = Math.ceil(pitch / (THREADS * vector));
    // Short rows would leave most threads of 256 idle.
    const block = Math.min(THREADS, 32 * Math.ceil(pitch / vector / 32));
    const grid = [across, Math.min(rows, MAX_GRID_Y), 1] as const;
    call.launch('losses', `crossEntropyGrad${vector}`, { grid, block }, [
      address(at),
      address(call.int(targets)),
      address(call.float(logSumExp)),
      address(call.float(dlosses)),
      address(at),
      rows,
      width,
      pitch,
    ]);
    return [dlogits];
  },
);

const entropy = cudaKernel(entropyKernel, (call, { logits }) => {
  const [rows, width] = rowsOf(logits);
  const entropies = call.make(logits.shape.slice(0, -1), 'float32');
  const { at, pitch } = call.rows(logits);
  call.launch('losses', 'entropy', { grid: rows, block: THREADS }, [
    address(at),
    address(call.at(entropies)),
    width,
    pitch,
  ]);
  return [entropies];
});

const binaryCrossEntropyGrad = cudaKernel(
  binaryCrossEntropyGradKernel,
  (call, { logits, labels }, { weight }) => {
    const dlogits = call.make(logits.shape, 'float32');
    call.launch('losses', 'binaryCrossEntropyGrad', elementThreads(logits.size), [
      address(call.float(logits)),
      address(call.float(labels)),
      address(call.at(dlogits)),
      float(weight / logits.size),
      long(logits.size),
    ]);
    return [dlogits];
  },
);

export const lossKernels = [crossEntropy, crossEntropyGrad, entropy, binaryCrossEntropyGrad];
