/** Gates on the device: gate.cu. */
import type { Gate } from '../../../ops/gates.js';

/** The codes by which kernels select a gate, as gate.cu defines them. */
export const GATE_CODES: Record<Gate, number> = { raw: 0, sigmoid: 1 };
