/** The gates of src/ops/gates.ts as TensorFlow operations. */
import type { Gate } from '../../ops/gates.js';
import type { Calls, Handle } from './calls.js';

interface GateOperations {
  /** gate(r), elementwise. */
  value: (calls: Calls, r: Handle) => Handle;
  /** gate'(r)·dvalue, elementwise: the gradient with respect to r. */
  gradient: (calls: Calls, r: Handle, dvalue: Handle) => Handle;
}

const sigmoid = (calls: Calls, r: Handle): Handle => calls.run('Sigmoid', [r]);

export const GATE_OPERATIONS: Record<Gate, GateOperations> = {
  raw: {
    value: (_, r) => r,
    gradient: (_calls, _r, dvalue) => dvalue,
  },
  sigmoid: {
    value: sigmoid,
    // SigmoidGrad(y, dy) = dy·y·(1 - y)
    gradient: (calls, r, dvalue) => calls.run('SigmoidGrad', [sigmoid(calls, r), dvalue]),
  },
};
