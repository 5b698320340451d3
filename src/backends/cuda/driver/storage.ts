/** How the elements of a tensor are stored in device memory. */

/** Storage of activations; kernel files are compiled for the storage in use. */
export type ActivationStorage = 'float32' | 'bfloat16';
export type Storage = ActivationStorage | 'int32';

export const BYTES_PER_ELEMENT: Record<Storage, number> = { float32: 4, bfloat16: 2, int32: 4 };
