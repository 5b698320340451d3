/** Matrix products through cuBLASLt, row-major as in the ops; the algorithm of each shape is chosen once. */

import { DeviceMemoryError } from '../../../errors.js';
import { koffi } from '../../../ffi.js';
import type { Address, Driver } from './driver.js';
import { type ActivationStorage, BYTES_PER_ELEMENT } from './storage.js';
import type { ProductTuning } from './tuning.js';

/** A product y [m, n] = α·a·b, summed over k. Row-major; a transposed operand is stored transposed. */
export interface Product {
  m: number;
  n: number;
  k: number;
  transposeA: boolean;
  transposeB: boolean;
  /** Storage of a and b. */
  operands: ActivationStorage;
  /** Storage of y. */
  result: ActivationStorage;
  /** Whether the product is added to y's values. */
  accumulate: boolean;
  /** Factor of a·b, before an epilogue; default 1. It changes neither the algorithm nor its time. */
  alpha?: number;
  /** Products of one shape in one call, operands and results contiguous; default 1. */
  batches?: number;
  /**
   * Applied to α·a·b before it is stored: `gelu` stores its gelu, and the product itself in the auxiliary matrix;
   * `gelu slope` multiplies it by the derivative of gelu at the auxiliary matrix. In bf16 only, for n a multiple of 8.
   */
  epilogue?: Epilogue;
}

export type Epilogue = 'gelu' | 'gelu slope';

// From cublasLt.h and library_types.h.
const COMPUTE_32F = 68;
const DATA_TYPE = { float32: 0, bfloat16: 14 } as const;
const TRANSPOSE = { no: 0, yes: 1 } as const;
const DESCRIPTOR = {
  transposeA: 3,
  transposeB: 4,
  epilogue: 7,
  auxiliary: 11,
  auxiliaryPitch: 12,
  auxiliaryOffset: 13,
} as const;
const LAYOUT = { batchCount: 5, batchOffset: 6 } as const;
/** CUBLASLT_EPILOGUE_GELU_AUX and CUBLASLT_EPILOGUE_DGELU; both are the tanh approximation. */
const EPILOGUE: Record<Epilogue, number> = { gelu: 160, 'gelu slope': 192 };
const PREFERENCE_WORKSPACE = 1;
/** CUBLAS_STATUS_ALLOC_FAILED, and what cuBLASLt returns if it cannot load a kernel: NOT_INITIALIZED, EXECUTION_FAILED, INTERNAL_ERROR. */
const ALLOCATION_FAILED = 3;
const KERNEL_FAILED = [1, 13, 14];
/** cublasLtMatmulHeuristicResult_t: the algorithm's 64 bytes, its workspace, state, waves, 4 reserved words. */
const RESULT_BYTES = 96;
const STATE_OFFSET = 72;
const ALGORITHM_BYTES = 64;
/** Hopper's fastest kernels need 32 MiB. */
const WORKSPACE_BYTES = 64 * 2 ** 20;

function bind(path: string) {
  const lib = koffi.load(path, { global: true });
  const f = (definition: string) => lib.func(`int ${definition}`) as (...args: unknown[]) => number;
  return {
    version: lib.func('size_t cublasLtGetVersion()') as () => number,
    create: f('cublasLtCreate(_Out_ uint64_t *handle)'),
    descriptorCreate: f('cublasLtMatmulDescCreate(_Out_ uint64_t *descriptor, int compute, int scale)'),
    descriptorSet: f(
      'cublasLtMatmulDescSetAttribute(uint64_t descriptor, int attribute, void *value, size_t bytes)',
    ),
    layoutCreate: f(
      'cublasLtMatrixLayoutCreate(_Out_ uint64_t *layout, int type, uint64_t rows, uint64_t columns, int64_t stride)',
    ),
    layoutSet: f(
      'cublasLtMatrixLayoutSetAttribute(uint64_t layout, int attribute, void *value, size_t bytes)',
    ),
    preferenceCreate: f('cublasLtMatmulPreferenceCreate(_Out_ uint64_t *preference)'),
    preferenceSet: f(
      'cublasLtMatmulPreferenceSetAttribute(uint64_t preference, int attribute, void *value, size_t bytes)',
    ),
    heuristic: f(
      'cublasLtMatmulAlgoGetHeuristic(uint64_t handle, uint64_t descriptor, uint64_t a, uint64_t b, uint64_t c, ' +
        'uint64_t d, uint64_t preference, int requested, void *results, _Out_ int *found)',
    ),
    matmul: f(
      'cublasLtMatmul(uint64_t handle, uint64_t descriptor, void *alpha, uint64_t a, uint64_t layoutA, uint64_t b, ' +
        'uint64_t layoutB, void *beta, uint64_t c, uint64_t layoutC, uint64_t d, uint64_t layoutD, void *algorithm, ' +
        'uint64_t workspace, size_t workspaceBytes, uint64_t stream)',
    ),
  };
}

/** Number of algorithms that are measured, of the heuristics' list, best first. */
const CANDIDATES = 24;

/** The handles and the algorithm of one shape, kept until the process exits. */
interface Plan {
  descriptor: Address;
  layouts: [a: Address, b: Address, d: Address];
  algorithm: Uint8Array;
}

export class CublasLt {
  /** 130000 for 13.0.0. */
  readonly version: number;
  private readonly lt: ReturnType<typeof bind>;
  private readonly handle: Address;
  private readonly preference: Address;
  private readonly workspace: Address;
  private readonly plans = new Map<string, Plan>();
  private readonly supported = new Map<string, boolean>();
  /** Measures algorithms; null to use the heuristics' first choice. */
  tuning: () => ProductTuning | null = () => null;
  private readonly one = Float32Array.of(1);
  private readonly zero = Float32Array.of(0);
  private readonly pointer = BigUint64Array.of(0n);

  constructor(
    path: string,
    private readonly driver: Driver,
  ) {
    this.lt = bind(path);
    this.version = Number(this.lt.version());
    this.handle = this.get(this.lt.create);
    this.preference = this.get(this.lt.preferenceCreate);
    const bytes = BigUint64Array.of(BigInt(WORKSPACE_BYTES));
    this.check(
      this.lt.preferenceSet(this.preference, PREFERENCE_WORKSPACE, bytes, 8),
      'setting the workspace',
    );
    const workspace = driver.allocate(WORKSPACE_BYTES);
    if (workspace === null)
      throw new DeviceMemoryError("out of GPU memory: cannot allocate cuBLASLt's workspace");
    this.workspace = workspace;
  }

  /** y = α·a·b, or y += α·a·b, for every batch; `auxiliary` is the epilogue's matrix, of y's shape. */
  multiply(product: Product, a: Address, b: Address, y: Address, auxiliary: Address = 0): void {
    if (product.m === 0 || product.n === 0) return;
    const plan = this.plan(product, a, b, y, auxiliary);
    if (product.epilogue !== undefined) this.setAuxiliary(plan.descriptor, auxiliary);
    this.execute(product, plan, a, b, y);
  }

  private execute(
    product: Product,
    { descriptor, layouts, algorithm }: Plan,
    a: Address,
    b: Address,
    y: Address,
  ): void {
    const { alpha = 1 } = product;
    // cuBLASLt is column-major: it computes yᵀ = bᵀ·aᵀ, whose operands are the same bytes. It reads the factors during the call.
    const code = this.lt.matmul(
      this.handle,
      descriptor,
      alpha === 1 ? this.one : Float32Array.of(alpha),
      b,
      layouts[0],
      a,
      layouts[1],
      product.accumulate ? this.one : this.zero,
      y,
      layouts[2],
      y,
      layouts[2],
      algorithm,
      this.workspace,
      WORKSPACE_BYTES,
      this.driver.stream,
    );
    this.check(code, `the product ${nameOf(product)}`);
  }

  private plan(product: Product, a: Address, b: Address, y: Address, auxiliary: Address): Plan {
    const key = nameOf(product);
    const tuning = this.tuning();
    const name = tuning === null ? key : `${key} tuned`;
    const known = this.plans.get(name);
    if (known !== undefined) return known;
    const { descriptor, layouts } = this.describe(product, auxiliary);
    const candidates = this.candidates(key, descriptor, layouts, tuning === null ? 1 : CANDIDATES);
    const { m, n, batches = 1, result, accumulate } = product;
    const scratch = accumulate ? batches * m * n * BYTES_PER_ELEMENT[result] : 0;
    const algorithm =
      tuning === null
        ? (candidates[0] as Uint8Array)
        : tuning.fastestAlgorithm(key, candidates, y, scratch, (candidate, to) =>
            this.execute(product, { descriptor, layouts, algorithm: candidate }, a, b, to),
          );
    const plan = { descriptor, layouts, algorithm };
    this.plans.set(name, plan);
    return plan;
  }

  /** Whether cuBLASLt has an algorithm for a product. */
  supports(product: Product): boolean {
    const key = nameOf(product);
    const known = this.supported.get(key);
    if (known !== undefined) return known;
    const { descriptor, layouts } = this.describe(product, this.workspace);
    let supported = true;
    try {
      this.candidates(key, descriptor, layouts, 1);
    } catch (error) {
      if (error instanceof DeviceMemoryError) throw error;
      supported = false;
    }
    this.supported.set(key, supported);
    return supported;
  }

  /** cuBLASLt's descriptor and layouts of a product. */
  private describe(product: Product, auxiliary: Address): Pick<Plan, 'descriptor' | 'layouts'> {
    const { m, n, k, transposeA, transposeB, batches = 1 } = product;
    const [operands, result] = [DATA_TYPE[product.operands], DATA_TYPE[product.result]];
    const descriptor = this.get(this.lt.descriptorCreate, COMPUTE_32F, DATA_TYPE.float32);
    const transpose = (attribute: number, flag: boolean) => {
      const value = Int32Array.of(flag ? TRANSPOSE.yes : TRANSPOSE.no);
      this.check(this.lt.descriptorSet(descriptor, attribute, value, 4), 'setting a transposition');
    };
    transpose(DESCRIPTOR.transposeA, transposeB);
    transpose(DESCRIPTOR.transposeB, transposeA);
    if (product.epilogue !== undefined) {
      const epilogue = Int32Array.of(EPILOGUE[product.epilogue]);
      this.check(this.lt.descriptorSet(descriptor, DESCRIPTOR.epilogue, epilogue, 4), 'setting an epilogue');
      const pitch = BigInt64Array.of(BigInt(n));
      this.check(
        this.lt.descriptorSet(descriptor, DESCRIPTOR.auxiliaryPitch, pitch, 8),
        'setting an epilogue',
      );
      const offset = BigInt64Array.of(BigInt(m * n));
      if (batches > 1)
        this.check(
          this.lt.descriptorSet(descriptor, DESCRIPTOR.auxiliaryOffset, offset, 8),
          'setting an epilogue',
        );
      this.setAuxiliary(descriptor, auxiliary);
    }
    // A row-major [rows, columns] matrix is a column-major [columns, rows] one.
    const layout = (type: number, rows: number, columns: number) => {
      const made = this.get(this.lt.layoutCreate, type, columns, rows, columns);
      if (batches > 1) this.setBatches(made, batches, rows * columns);
      return made;
    };
    const layouts: Plan['layouts'] = [
      transposeB ? layout(operands, n, k) : layout(operands, k, n),
      transposeA ? layout(operands, k, m) : layout(operands, m, k),
      layout(result, m, n),
    ];
    return { descriptor, layouts };
  }

  /** Up to `most` algorithms for a product, the heuristics' best first. */
  private candidates(key: string, descriptor: Address, layouts: Plan['layouts'], most: number): Uint8Array[] {
    const results = new Uint8Array(RESULT_BYTES * most);
    const found = [0];
    const code = this.lt.heuristic(
      this.handle,
      descriptor,
      ...layouts,
      layouts[2],
      this.preference,
      most,
      results,
      found,
    );
    this.check(code, `choosing an algorithm for ${key}`);
    const states = new DataView(results.buffer);
    const usable = Array.from({ length: found[0] as number }, (_, i) => i * RESULT_BYTES)
      .filter((at) => states.getInt32(at + STATE_OFFSET, true) === 0)
      .map((at) => results.slice(at, at + ALGORITHM_BYTES));
    if (usable.length === 0) throw new Error(`cuBLASLt has no algorithm for the product ${key}`);
    return usable;
  }

  private setAuxiliary(descriptor: Address, auxiliary: Address): void {
    this.pointer[0] = BigInt(auxiliary);
    this.check(
      this.lt.descriptorSet(descriptor, DESCRIPTOR.auxiliary, this.pointer, 8),
      "setting an epilogue's matrix",
    );
  }

  /** Extends a layout to several contiguous matrices. */
  private setBatches(layout: Address, batches: number, elements: number): void {
    const set = (attribute: number, value: Int32Array | BigInt64Array) =>
      this.check(
        this.lt.layoutSet(layout, attribute, value, value.byteLength),
        'setting the batches of a product',
      );
    set(LAYOUT.batchCount, Int32Array.of(batches));
    set(LAYOUT.batchOffset, BigInt64Array.of(BigInt(elements)));
  }

  private get(call: (...args: unknown[]) => number, ...args: unknown[]): number {
    const out = [0];
    this.check(call(out, ...args), 'cuBLASLt');
    return Number(out[0]);
  }

  /** @throws DeviceMemoryError if the device is out of memory */
  private check(code: number, what: string): void {
    if (code === 0) return;
    const message = `${what}: cuBLAS error ${code}`;
    if (code === ALLOCATION_FAILED || (KERNEL_FAILED.includes(code) && this.driver.isMemoryFull()))
      throw this.driver.outOfMemory(message);
    throw new Error(message);
  }
}

/** The name of a product in errors and in the cache of tuning. */
export function nameOf(product: Product): string {
  const {
    m,
    n,
    k,
    transposeA,
    transposeB,
    operands,
    result,
    accumulate,
    epilogue = '',
    batches = 1,
  } = product;
  const side = (rows: number, columns: number, flag: boolean) => `[${rows},${columns}]${flag ? 'ᵀ' : ''}`;
  const a = transposeA ? side(k, m, true) : side(m, k, false);
  const b = transposeB ? side(n, k, true) : side(k, n, false);
  return `${batches === 1 ? '' : `${batches} × `}${a}·${b} ${operands}→${result}${accumulate ? ' added' : ''}${epilogue}`;
}
