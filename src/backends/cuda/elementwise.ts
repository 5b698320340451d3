/** Norms, gelu, residual sums and losses on cuda, each one pass over its rows. */
import type { Tensor, TensorInfo } from '@tensorflow/tfjs-core';
import { binaryCrossEntropyGradKernel } from '../../ops/binary-cross-entropy.js';
import { crossEntropyGradKernel, crossEntropyKernel } from '../../ops/cross-entropy.js';
import { entropyKernel } from '../../ops/entropy.js';
import { geluGradKernel, geluKernel } from '../../ops/gelu.js';
import { residualKernel } from '../../ops/residual.js';
import { addRmsNormKernel, rmsNormGradKernel, rmsNormKernel } from '../../ops/rms-norm.js';
import { type Call, registerCudaKernel, rowsOf } from './call.js';
import { address, float, long } from './kernels.js';
import { sumChunks, sumColumns } from './sums.js';

const THREADS = 256;
/** Rows of a block where each has a warp. */
export const ROWS_OF_BLOCK = THREADS / 32;
/**
 * Forms of a gradient, the norm's or the router's, that keep a row in registers: columns that a lane takes at once, how
 * many times, and the blocks that a multiprocessor then holds, as kernels/norm.cu and kernels/routing.cu have them.
 */
const GRAD_FORMS = [
  { vector: 8, groups: 1, blocks: 4 },
  { vector: 2, groups: 1, blocks: 4 },
  { vector: 2, groups: 3, blocks: 4 },
  { vector: 8, groups: 2, blocks: 3 },
  { vector: 2, groups: 5, blocks: 4 },
  { vector: 2, groups: 7, blocks: 4 },
  { vector: 8, groups: 3, blocks: 2 },
  { vector: 8, groups: 4, blocks: 2 },
  { vector: 8, groups: 8, blocks: 1 },
];
/** Rows up to this long are a warp's work in the cross-entropy, longer ones a block's. */
const LONGEST_WARP_ROW = 2048;

/** Elements at a time: 8 where rows are a multiple of 8 wide, so that loads are 16 bytes or more. */
export function vectorOf(width: number): 1 | 8 {
  return width % 8 === 0 ? 8 : 1;
}

export function registerElementwise(): void {
  registerCudaKernel(rmsNormKernel, (call, { x, gain }) => {
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

  registerCudaKernel(addRmsNormKernel, (call, { x, branch, gain }) => {
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

  registerCudaKernel(rmsNormGradKernel, (call, { dy, x, gain, inverseRms, gradAccum }) => {
    const [rows, width] = rowsOf(x);
    const { sum: dx, accumulate } = call.accumulator(gradAccum, x.shape, call.backend.activations);
    const scale = call.float(inverseRms);
    const inputs = [
      address(call.activation(dy)),
      address(call.activation(x)),
      address(call.float(gain)),
      address(scale),
    ];
    const form = gradForm(width);
    if (form === undefined) {
      call.launch('norm', 'rmsNormGradAnyWidth', warpRows(rows), [
        ...inputs,
        address(call.at(dx)),
        rows,
        width,
        accumulate,
      ]);
      return [dx, sumColumns(call, { dy, x, scale, rows, width })];
    }
    const { name, shape } = persistent(call, 'rmsNormGrad', form, rows, width);
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

  registerCudaKernel(geluKernel, (call, { x }) => {
    const y = call.makeActivation(x.shape);
    overElements(call, 'gelu', x.size, [x, y]);
    return [y];
  });

  registerCudaKernel(geluGradKernel, (call, { dy, x }) => {
    const dx = call.reuse(dy, call.backend.activations);
    overElements(call, 'geluGrad', x.size, [dx, x, dx]);
    return [dx];
  });

  registerCudaKernel(residualKernel, (call, { x, y }) => {
    const sum = call.makeActivation(x.shape);
    overElements(call, 'residual', x.size, [x, y, sum]);
    return [sum];
  });

  registerCudaKernel(crossEntropyKernel, (call, { logits, targets }) => {
    const [rows, width] = rowsOf(logits);
    const [losses, logSumExp] = [call.make(targets.shape, 'float32'), call.make(targets.shape, 'float32')];
    const short = width <= LONGEST_WARP_ROW;
    const shape = short ? warpRows(rows) : { grid: rows, block: THREADS };
    call.launch('losses', `crossEntropy${short ? 'Warp' : 'Block'}${vectorOf(width)}`, shape, [
      address(call.activation(logits)),
      address(call.int(targets)),
      address(call.at(losses)),
      address(call.at(logSumExp)),
      rows,
      width,
    ]);
    return [losses, logSumExp];
  });

  registerCudaKernel(crossEntropyGradKernel, (call, { logits, targets, logSumExp, dlosses }) => {
    const [rows, width] = rowsOf(logits);
    const dlogits = call.reuse(logits, call.backend.activations);
    const across = Math.ceil(width / (THREADS * vectorOf(width)));
    // Short rows would leave most threads of 256 idle.
    const block = Math.min(THREADS, 32 * Math.ceil(width / vectorOf(width) / 32));
    const grid = [across, Math.min(rows, 65535), 1] as const;
    call.launch('losses', `crossEntropyGrad${vectorOf(width)}`, { grid, block }, [
      address(call.at(dlogits)),
      address(call.int(targets)),
      address(call.float(logSumExp)),
      address(call.float(dlosses)),
      address(call.at(dlogits)),
      rows,
      width,
    ]);
    return [dlogits];
  });

  registerCudaKernel(entropyKernel, (call, { logits }) => {
    const [rows, width] = rowsOf(logits);
    const entropies = call.make(logits.shape.slice(0, -1), 'float32');
    call.launch('losses', 'entropy', { grid: rows, block: THREADS }, [
      address(call.activation(logits)),
      address(call.at(entropies)),
      width,
    ]);
    return [entropies];
  });

  registerCudaKernel(binaryCrossEntropyGradKernel, (call, { logits, labels }, { weight }) => {
    const dlogits = call.make(logits.shape, 'float32');
    call.launch(
      'losses',
      'binaryCrossEntropyGrad',
      { grid: Math.ceil(logits.size / THREADS), block: THREADS },
      [
        address(call.float(logits)),
        address(call.float(labels)),
        address(call.at(dlogits)),
        float(weight / logits.size),
        long(logits.size),
      ],
    );
    return [dlogits];
  });
}

type GradForm = (typeof GRAD_FORMS)[number];

/** The form that a row of this width fills best; none for widths that are no multiple of 8 or too large. */
export function gradForm(width: number): GradForm | undefined {
  const room = ({ vector, groups }: GradForm) => 32 * vector * groups;
  const fitting = GRAD_FORMS.filter((form) => width % 8 === 0 && width <= room(form));
  return fitting.sort((a, b) => room(a) - room(b) || b.vector - a.vector)[0];
}

/** A gradient's kernel in a form, and its launch for as many warps as have work: each block leaves `width` partial sums. */
export function persistent(
  call: Call,
  kernel: string,
  { vector, groups, blocks }: GradForm,
  warps: number,
  width: number,
): { name: string; shape: { grid: number; block: number; shared: number } } {
  const grid = Math.min(Math.ceil(warps / ROWS_OF_BLOCK), blocks * call.backend.driver.multiprocessors);
  return { name: `${kernel}${vector}x${groups}`, shape: { grid, block: THREADS, shared: 4 * width } };
}

/** One warp a row. */
export function warpRows(rows: number): { grid: number; block: number } {
  return { grid: Math.ceil(rows / ROWS_OF_BLOCK), block: THREADS };
}

/** A pass over tensors of one size stored as activations are, the last one written. */
export function overElements(call: Call, name: string, size: number, tensors: TensorInfo[]): void {
  const vector = vectorOf(size);
  call.launch(
    'elementwise',
    `${name}${vector}`,
    { grid: Math.ceil(size / (THREADS * vector)), block: THREADS },
    [...tensors.map((tensor) => address(call.activation(tensor))), long(size)],
  );
}
