/** AdamW's moments in a checkpoint: optimizer.safetensors, under PyTorch's names of its state and of the parameters. */
import { keep, tensor } from '@tensorflow/tfjs-core';
import { InputError } from '../errors.js';
import { type SafeTensor, safetensorsParts } from '../files/safetensors.js';
import type { Parameter } from '../ops/tape.js';
import type { AdamW, Moments } from '../train/adamw.js';
import { tensorSource, tensorsOf } from './model.js';

/** What torch.optim.AdamW calls the two. */
const STATE_NAMES: Record<keyof Moments, string> = { mean: 'exp_avg', variance: 'exp_avg_sq' };
const MOMENTS = Object.keys(STATE_NAMES) as (keyof Moments)[];

/** Both moments of every parameter, with the values of this moment: exp_avg.blocks.0.attn.q_proj.weight, ... */
export function momentParts({ moments }: AdamW): Uint8Array[] {
  const tensors = [...moments].flatMap(([parameter, pair]) =>
    MOMENTS.flatMap((which): SafeTensor[] => tensorsOf(parameter, pair[which], prefixOf(which))),
  );
  return safetensorsParts(tensors);
}

/**
 * Gives an optimizer the moments of a file, and the number of steps that it has taken.
 *
 * @throws InputError where they are not those of its parameters
 */
export function loadMoments(path: string, optimizer: AdamW, step: number): void {
  const { source, unused } = tensorSource(path);
  for (const [parameter, moments] of optimizer.moments) {
    for (const which of MOMENTS) {
      const values = stackedValues(parameter, (name, shape) =>
        source({ name: `${prefixOf(which)}${name}`, shape }),
      );
      moments[which].dispose();
      moments[which] = keep(tensor(values, parameter.value.shape));
    }
  }
  const [extra] = unused();
  if (extra !== undefined) throw new InputError(`${path}: the tensor ${extra} belongs to no parameter`);
  optimizer.step = step;
}

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

const prefixOf = (which: keyof Moments) => `${STATE_NAMES[which]}.`;
