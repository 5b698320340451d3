/** AdamW and the global norm on cuda: all parameters in one launch, described by a table in device memory. */
import type { Tensor } from '@tensorflow/tfjs-core';
import {
  type AdamWAttrs,
  type AdamWState,
  adamWKernel,
  adamWStates,
  adamWStepKernel,
  CLIP_EPSILON,
} from '../../ops/adamw.js';
import { globalNormKernel } from '../../ops/global-norm.js';
import type { CudaBackend } from './backend.js';
import { type Call, registerCudaKernel } from './call.js';
import type { Address } from './driver.js';
import { address, float } from './kernels.js';
import type { Block } from './memory.js';

const THREADS = 256;
/** Elements of one parameter that a block takes, and struct Parameter's size: as kernels/optimizer.cu has them. */
const OF_BLOCK = 4096;
const ROW_BYTES = 56;

interface Row {
  value: Address;
  grad: Address;
  mean: Address;
  variance: Address;
  weights: Address;
  size: number;
  decay: number;
}

/** Tables on the device, by what they hold: the same addresses in every step need one upload. */
class Tables {
  private readonly known = new Map<string, { block: Block; blocks: number; recordedIn: number }>();
  /** Steps without a captured graph may come by other addresses: more tables than this are forgotten, oldest first. */
  private static readonly MOST = 64;

  /** The table of these rows, and the blocks of a grid over them. */
  of(backend: CudaBackend, rows: Row[]): { table: Address; blocks: number } {
    const bytes = new DataView(new ArrayBuffer(ROW_BYTES * rows.length));
    let blocks = 0;
    rows.forEach((row, i) => {
      const at = ROW_BYTES * i;
      const words = [row.value, row.grad, row.mean, row.variance, row.weights, row.size];
      words.forEach((word, w) => {
        bytes.setBigUint64(at + 8 * w, BigInt(word), true);
      });
      bytes.setFloat32(at + 48, row.decay, true);
      bytes.setInt32(at + 52, blocks, true);
      blocks += Math.ceil(row.size / OF_BLOCK);
    });
    const content = new Uint8Array(bytes.buffer);
    const key = Buffer.from(content).toString('latin1');
    const found = this.known.get(key);
    if (found !== undefined && !backend.isForgotten(found.recordedIn)) {
      return { table: found.block.address, blocks };
    }
    if (found !== undefined) this.forget(backend, key, found.block);
    if (this.known.size === Tables.MOST) this.forgetOldest(backend);
    const block = backend.device.allocate(content.length);
    backend.upload(block.address, content);
    this.known.set(key, { block, blocks, recordedIn: backend.recordedIn });
    return { table: block.address, blocks };
  }

  private forgetOldest(backend: CudaBackend): void {
    for (const [key, { block }] of this.known) {
      this.forget(backend, key, block);
      return;
    }
  }

  private forget(backend: CudaBackend, key: string, block: Block): void {
    backend.device.release(block);
    this.known.delete(key);
  }
}

export function registerOptimizer(): void {
  const tables = new Tables();

  registerCudaKernel(globalNormKernel, (call, gradients) => {
    const rows = Object.values(gradients).map((grad) => rowOf({ grad: call.float(grad), size: grad.size }));
    const { table, blocks } = tables.of(call.backend, rows);
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

  registerCudaKernel(adamWStepKernel, (call, inputs, { weightDecays, ...attrs }) => {
    const states = adamWStates(inputs, weightDecays.length);
    return update(
      call,
      tables,
      states,
      inputs.norm as Tensor,
      inputs.schedule as Tensor,
      weightDecays,
      attrs,
    );
  });
  registerCudaKernel(adamWKernel, (call, { norm, schedule, ...state }, { weightDecay, ...attrs }) => {
    const updated = update(
      call,
      tables,
      [state as unknown as AdamWState],
      norm,
      schedule,
      [weightDecay],
      attrs,
    );
    return updated as [Tensor, Tensor, Tensor];
  });
}

/** Updates all parameters in their places: [value, mean, variance of each in turn]. */
function update(
  call: Call,
  tables: Tables,
  states: AdamWState[],
  norm: Tensor,
  schedule: Tensor,
  weightDecays: number[],
  attrs: Omit<AdamWAttrs, 'weightDecay'>,
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
      decay: weightDecays[i] as number,
    });
  });
  const { table, blocks } = tables.of(call.backend, rows);
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
  return { value: 0, grad: 0, mean: 0, variance: 0, weights: 0, decay: 0, ...row };
}

/** A state's tensor to write into: the input's own memory, its bf16 form kept, since the kernel writes that too. */
function inPlace(call: Call, tensor: Tensor): Tensor {
  const data = call.backend.dataOf(tensor);
  return data.refCount === 1 && data.storage === 'float32' ? tensor.clone() : call.reuse(tensor, 'float32');
}
