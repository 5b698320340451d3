/** The optimizer's state in a checkpoint: optimizer.safetensors, with names such as `exp_avg.blocks.0.attn.q_proj.weight`. */
import { keep, type Tensor, tensor } from '@tensorflow/tfjs-core';
import { InputError } from '../errors.js';
import { safetensorsParts } from '../files/safetensors.js';
import type { Parameter } from '../ops/tape.js';
import type { Optimizer } from '../train/optimizer.js';
import { tensorSource, tensorsOf } from './model.js';

/** The bytes of the file, with the current values. */
export function optimizerStateParts({ state }: Optimizer): Uint8Array[] {
  const tensors = [...state].flatMap(([parameter, tensors]) =>
    Object.entries(tensors).flatMap(([name, value]) => tensorsOf(parameter, value, `${name}.`)),
  );
  return safetensorsParts(tensors);
}

/**
 * Replaces an optimizer's state by that of a file, and sets its step.
 *
 * @throws InputError if the file's tensors are not those of the optimizer and its parameters
 */
export function loadOptimizerState(path: string, optimizer: Optimizer, step: number): void {
  const { source, unused } = tensorSource(path);
  for (const [parameter, tensors] of optimizer.state) {
    for (const [name, before] of Object.entries<Tensor>(tensors)) {
      const values = stackedValues(parameter, (part, shape) => source({ name: `${name}.${part}`, shape }));
      before.dispose();
      tensors[name] = keep(tensor(values, parameter.value.shape));
    }
  }
  const [extra] = unused();
  if (extra !== undefined)
    throw new InputError(`${path}: the tensor ${extra} does not belong to a parameter`);
  optimizer.step = step;
}

/** The values of a parameter that a checkpoint stores in parts, such as q, k and v. */
function stackedValues(
  { value, tensorNames }: Parameter,
  read: (name: string, shape: number[]) => Float32Array,
): Float32Array {
  const [rows, ...rest] = value.shape as [number, ...number[]];
  const values = new Float32Array(value.size);
  tensorNames.forEach((name, i) => {
    values.set(read(name, [rows / tensorNames.length, ...rest]), (i * value.size) / tensorNames.length);
  });
  return values;
}
