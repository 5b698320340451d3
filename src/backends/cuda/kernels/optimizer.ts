/** AdamW and the global norm: all parameters in one launch, listed by a table in device memory: optimizer.cu. */
import type { Tensor } from '@tensorflow/tfjs-core';
import {
  type AdamWState,
  type AdamWStepAttrs,
  adamWKernel,
  adamWStates,
  adamWStepKernel,
  CLIP_EPSILON,
} from '../../../ops/adamw.js';
import { globalNormKernel } from '../../../ops/global-norm.js';
import type { CudaBackend } from '../backend.js';
import { type Call, cudaKernel } from '../driver/call.js';
import type { Address } from '../driver/driver.js';
import { address, float } from '../driver/kernel-library.js';
import { THREADS } from './launch-shapes.js';

/** Elements of one parameter that a block processes, as in optimizer.cu. */
const ELEMENTS_PER_BLOCK = 4096;
/** Size of struct Parameter in optimizer.cu, in bytes. */
const ROW_BYTES = 64;

/** One parameter of the table; addresses that a kernel does not use are 0. */
interface Row {
  value: Address;
  grad: Address;
  mean: Address;
  variance: Address;
  weights: Address;
  size: number;
  decay: number;
  /** Factor of the learning rate. */
  rate: number;
}

const globalNorm = cudaKernel(globalNormKernel, (call, gradients) => {
  const rows = Object.values(gradients).map((grad) => rowOf({ grad: call.float(grad), size: grad.size }));
  const { table, blocks } = tableOf(call.backend, rows);
  const partials = call.scratch(4 * blocks);
  const norm = call.make([], 'float32');
  call.launch('optimizer', 'squaresOfGradients', { grid: blocks, block: THREADS }, [
    address(table),
    rows.length,
    address(partials),
  ]);
  call.launch('optimizer', 'normOfPartials', { grid: 1, block: 1024 }, [
    address(partials),
    blocks,
    address(call.at(norm)),
  ]);
  return [norm];
});

const adamWStep = cudaKernel(adamWStepKernel, (call, inputs, attrs) => {
  const states = adamWStates(inputs, attrs.weightDecays.length);
  return update(call, states, inputs.norm as Tensor, inputs.schedule as Tensor, attrs);
});

const adamW = cudaKernel(
  adamWKernel,
  (call, { norm, schedule, ...state }, { weightDecay, rateFactor, ...attrs }) => {
    const states = [state as unknown as AdamWState];
    const own = { ...attrs, weightDecays: [weightDecay], rateFactors: [rateFactor] };
    return update(call, states, norm, schedule, own) as [Tensor, Tensor, Tensor];
  },
);

export const optimizerKernels = [globalNorm, adamWStep, adamW];

/** The address of a table of these rows, and the number of blocks of a grid over all elements. */
function tableOf({ tables }: CudaBackend, rows: Row[]): { table: Address; blocks: number } {
  const bytes = new DataView(new ArrayBuffer(ROW_BYTES * rows.length));
  let blocks = 0;
  rows.forEach((row, i) => {
    const at = ROW_BYTES * i;
    const words = [row.value, row.grad, row.mean, row.variance, row.weights, row.size];
    words.forEach((word, w) => {
      bytes.setBigUint64(at + 8 * w, BigInt(word), true);
    });
    bytes.setFloat32(at + 48, row.decay, true);
    bytes.setFloat32(at + 52, row.rate, true);
    bytes.setInt32(at + 56, blocks, true);
    blocks += Math.ceil(row.size / ELEMENTS_PER_BLOCK);
  });
  return { table: tables.addressOf(new Uint8Array(bytes.buffer)), blocks };
}

/** Updates all parameters in place: [value, mean, variance] of each in turn. */
function update(
  call: Call,
  states: AdamWState[],
  norm: Tensor,
  schedule: Tensor,
  attrs: AdamWStepAttrs,
): Tensor[] {
  const updated: Tensor[] = [];
  const rows = states.map(({ value, grad, mean, variance }, i) => {
    const [newValue, newMean, newVariance] = [value, mean, variance].map((tensor) =>
      inPlace(call, tensor),
    ) as [Tensor, Tensor, Tensor];
    updated.push(newValue, newMean, newVariance);
    return rowOf({
      value: call.at(newValue),
      grad: call.float(grad),
      mean: call.at(newMean),
      variance: call.at(newVariance),
      weights: call.backend.dataOf(newValue).shadow?.address ?? 0,
      size: value.size,
      decay: attrs.weightDecays[i] as number,
      rate: attrs.rateFactors[i] as number,
    });
  });
  const { table, blocks } = tableOf(call.backend, rows);
  call.launch('optimizer', 'adamW', { grid: blocks, block: THREADS }, [
    address(table),
    rows.length,
    address(call.float(norm)),
    address(call.float(schedule)),
    float(attrs.beta1),
    float(attrs.beta2),
    float(attrs.epsilon),
    float(attrs.maxNorm),
    float(CLIP_EPSILON),
  ]);
  return updated;
}

function rowOf(row: Partial<Row> & { size: number }): Row {
  return { value: 0, grad: 0, mean: 0, variance: 0, weights: 0, decay: 0, rate: 1, ...row };
}

/** A state tensor for the kernel to write, in the input's memory if possible; its bf16 copy is kept and written too. */
function inPlace(call: Call, tensor: Tensor): Tensor {
  const data = call.backend.dataOf(tensor);
  return data.refCount === 1 && data.storage === 'float32' ? tensor.clone() : call.reuse(tensor, 'float32');
}
