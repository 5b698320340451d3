/** The names of the backends and of their precisions. */

export type Precision = 'auto' | 'fp32' | 'bf16';
export type BackendName = 'cuda' | 'tensorflow' | 'wasm';
