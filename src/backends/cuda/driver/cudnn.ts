/** cuDNN's graph API through koffi: descriptors and their attributes, engines by heuristics, plans as JSON. */

import { DeviceMemoryError } from '../../../errors.js';
import { koffi } from '../../../ffi.js';
import type { Address, Driver } from './driver.js';

/** cudnnBackendDescriptorType_t */
export const DESCRIPTOR = {
  pointwise: 0,
  engineConfig: 3,
  heuristics: 4,
  plan: 5,
  pointwiseOperation: 13,
  graph: 15,
  variantPack: 16,
  tensor: 17,
  matmul: 18,
  matmulOperation: 19,
  reduction: 21,
  reductionOperation: 22,
  reshapeOperation: 31,
  deviceProperties: 38,
} as const;

/** cudnnBackendAttributeType_t and the bytes of a value. */
const TYPE = {
  handle: { id: 0, bytes: 8 },
  dataType: { id: 1, bytes: 4 },
  boolean: { id: 2, bytes: 1 },
  int64: { id: 3, bytes: 8 },
  float: { id: 4, bytes: 4 },
  pointer: { id: 6, bytes: 8 },
  heuristicsMode: { id: 8, bytes: 4 },
  pointwiseMode: { id: 14, bytes: 4 },
  descriptor: { id: 15, bytes: 8 },
  reductionOperator: { id: 18, bytes: 4 },
  char: { id: 24, bytes: 1 },
} as const;
type AttributeType = keyof typeof TYPE;

const ATTRIBUTE = {
  heuristicsMode: 200,
  heuristicsGraph: 201,
  heuristicsResults: 202,
  heuristicsDevice: 204,
  planHandle: 400,
  planConfig: 401,
  planWorkspace: 402,
  planJson: 405,
  planDevice: 407,
  graphHandle: 800,
  graphOperations: 801,
  packIds: 1000,
  packPointers: 1001,
  packWorkspace: 1003,
  deviceJson: 2702,
} as const;

/** cudnnStatus_t: an allocation on the device failed; and two codes that also mean so, if the device's memory is full. */
const ALLOCATION_FAILED = 4004;
const KERNEL_FAILED = [4000, 5000, 5001];

/** Modes of the heuristics, in the order in which they are tried: the most accurate, the instant one, the fallback. */
const HEURISTICS_MODES = [3, 0, 2];

function bind(path: string) {
  const lib = koffi.load(path, { global: true });
  const f = (definition: string) => lib.func(`int ${definition}`) as (...args: unknown[]) => number;
  return {
    version: lib.func('size_t cudnnGetVersion()') as () => number,
    lastError: lib.func('void cudnnGetLastErrorString(void *text, size_t bytes)') as (
      ...args: unknown[]
    ) => void,
    create: f('cudnnCreate(_Out_ uint64_t *handle)'),
    setStream: f('cudnnSetStream(uint64_t handle, uint64_t stream)'),
    descriptorCreate: f('cudnnBackendCreateDescriptor(int type, _Out_ uint64_t *descriptor)'),
    descriptorDestroy: f('cudnnBackendDestroyDescriptor(uint64_t descriptor)'),
    set: f(
      'cudnnBackendSetAttribute(uint64_t descriptor, int attribute, int type, int64_t count, void *values)',
    ),
    get: f(
      'cudnnBackendGetAttribute(uint64_t descriptor, int attribute, int type, int64_t requested, _Out_ int64_t *count, ' +
        'void *values)',
    ),
    finalize: f('cudnnBackendFinalize(uint64_t descriptor)'),
    execute: f('cudnnBackendExecute(uint64_t handle, uint64_t plan, uint64_t variantPack)'),
  };
}

/** An executable graph. */
export interface CudnnPlan {
  descriptor: Descriptor;
  workspaceBytes: number;
}

/** The part of the driver that tells a lack of memory from other errors. */
export type DeviceMemoryState = Pick<Driver, 'isMemoryFull' | 'outOfMemory'>;

export class Cudnn {
  /** 91900 for 9.19.0. */
  readonly version: number;
  readonly lib: ReturnType<typeof bind>;
  private memory: DeviceMemoryState | null = null;
  private handle: Address | null = null;
  private device: Descriptor | null = null;

  /** Loads the library. Call `useStream` for a GPU, or `describeDevice` to plan for one that this machine lacks. */
  constructor(path: string) {
    this.lib = bind(path);
    this.version = Number(this.lib.version());
  }

  useStream(stream: Address, memory: DeviceMemoryState): void {
    this.memory = memory;
    const out = [0];
    this.check(this.lib.create(out), 'cudnnCreate');
    this.handle = Number(out[0]);
    this.check(this.lib.setStream(this.handle, stream), 'cudnnSetStream');
  }

  /** Sets the properties of the GPU to plan for, on a machine without one. */
  describeDevice(properties: object): void {
    this.device = new Descriptor(this, DESCRIPTOR.deviceProperties)
      .setText(ATTRIBUTE.deviceJson, JSON.stringify(properties))
      .finalize();
  }

  /** Makes a plan with the first engine of the heuristics' list that supports the graph; throws if none does. */
  plan(operations: Descriptor[]): CudnnPlan {
    const graph = new Descriptor(this, DESCRIPTOR.graph).set(
      ATTRIBUTE.graphOperations,
      'descriptor',
      operations.map(({ address }) => address),
    );
    if (this.handle !== null) graph.set(ATTRIBUTE.graphHandle, 'handle', [this.handle]);
    graph.finalize();
    let reason = 'the heuristics list no engine';
    for (const mode of HEURISTICS_MODES) {
      for (const config of this.configurations(graph, mode)) {
        try {
          const descriptor = this.newPlan()
            .set(ATTRIBUTE.planConfig, 'descriptor', [config.address])
            .finalize();
          return { descriptor, workspaceBytes: workspaceOf(descriptor) };
        } catch (error) {
          if (error instanceof DeviceMemoryError) throw error;
          reason = error instanceof Error ? error.message : String(error);
        }
      }
    }
    throw new Error(`cuDNN ${this.version} has no plan for this attention: ${reason}`);
  }

  /** Makes a plan from the JSON of `planJson`; throws if it is of another cuDNN or GPU. */
  planFromJson(json: Uint8Array): CudnnPlan {
    const descriptor = this.newPlan().setBytes(ATTRIBUTE.planJson, json).finalize();
    return { descriptor, workspaceBytes: workspaceOf(descriptor) };
  }

  /** A plan as JSON, with its compiled kernel. */
  planJson({ descriptor }: CudnnPlan): Uint8Array {
    const size = descriptor.count(ATTRIBUTE.planJson, 'char');
    return descriptor.getBytes(ATTRIBUTE.planJson, size);
  }

  /** Runs a plan on tensors, given by unique id. Addresses of by-value tensors are host addresses. */
  execute(
    plan: CudnnPlan,
    tensors: readonly (readonly [id: number, at: Address])[],
    workspace: Address,
  ): void {
    if (this.handle === null) throw new Error('cuDNN has no stream');
    const pack = new Descriptor(this, DESCRIPTOR.variantPack)
      .set(
        ATTRIBUTE.packIds,
        'int64',
        tensors.map(([id]) => id),
      )
      .set(
        ATTRIBUTE.packPointers,
        'pointer',
        tensors.map(([, at]) => at),
      )
      .set(ATTRIBUTE.packWorkspace, 'pointer', [workspace])
      .finalize();
    this.check(this.lib.execute(this.handle, plan.descriptor.address, pack.address), 'cudnnBackendExecute');
    pack.destroy();
  }

  /** @throws DeviceMemoryError if the device is out of memory */
  check(code: number, what: string): void {
    if (code === 0) return;
    const buffer = Buffer.alloc(4096);
    this.lib.lastError(buffer, buffer.length);
    const message = buffer.toString('utf8', 0, Math.max(0, buffer.indexOf(0))).trim();
    const text = `${what}: cuDNN error ${code}${message === '' ? '' : `: ${message}`}`;
    const { memory } = this;
    if (
      memory !== null &&
      (code === ALLOCATION_FAILED || (KERNEL_FAILED.includes(code) && memory.isMemoryFull()))
    )
      throw memory.outOfMemory(text);
    throw new Error(text);
  }

  /** A plan descriptor for the stream's GPU or the described one. */
  private newPlan(): Descriptor {
    const plan = new Descriptor(this, DESCRIPTOR.plan);
    if (this.handle !== null) return plan.set(ATTRIBUTE.planHandle, 'handle', [this.handle]);
    if (this.device !== null) return plan.set(ATTRIBUTE.planDevice, 'descriptor', [this.device.address]);
    return plan;
  }

  /** The engine configurations that a mode of the heuristics lists for a graph, best first. */
  private configurations(graph: Descriptor, mode: number): Descriptor[] {
    const heuristics = new Descriptor(this, DESCRIPTOR.heuristics)
      .set(ATTRIBUTE.heuristicsGraph, 'descriptor', [graph.address])
      .set(ATTRIBUTE.heuristicsMode, 'heuristicsMode', [mode]);
    if (this.device !== null) heuristics.set(ATTRIBUTE.heuristicsDevice, 'descriptor', [this.device.address]);
    try {
      heuristics.finalize();
    } catch (error) {
      if (error instanceof DeviceMemoryError) throw error;
      return []; // this mode does not support the graph
    }
    const count = heuristics.count(ATTRIBUTE.heuristicsResults, 'descriptor');
    const configs = Array.from({ length: count }, () => new Descriptor(this, DESCRIPTOR.engineConfig));
    return configs.slice(0, heuristics.fill(ATTRIBUTE.heuristicsResults, configs));
  }
}

/** A descriptor of cuDNN: created, given attributes, finalized. */
export class Descriptor {
  readonly address: Address;

  constructor(
    private readonly cudnn: Cudnn,
    private readonly type: number,
  ) {
    const out = [0];
    cudnn.check(cudnn.lib.descriptorCreate(type, out), `creating a descriptor of type ${type}`);
    this.address = Number(out[0]);
  }

  set(attribute: number, type: AttributeType, values: readonly number[]): this {
    const { id, bytes } = TYPE[type];
    const view = new DataView(new ArrayBuffer(bytes * values.length));
    values.forEach((value, i) => {
      if (bytes === 8) view.setBigInt64(8 * i, BigInt(value), true);
      else if (type === 'float') view.setFloat32(4 * i, value, true);
      else if (bytes === 4) view.setInt32(4 * i, value, true);
      else view.setUint8(i, value);
    });
    return this.put(attribute, id, values.length, new Uint8Array(view.buffer));
  }

  setText(attribute: number, text: string): this {
    return this.setBytes(attribute, Buffer.from(text));
  }

  setBytes(attribute: number, bytes: Uint8Array): this {
    return this.put(attribute, TYPE.char.id, bytes.length, bytes);
  }

  finalize(): this {
    this.cudnn.check(this.cudnn.lib.finalize(this.address), `finalizing a descriptor of type ${this.type}`);
    return this;
  }

  destroy(): void {
    this.cudnn.lib.descriptorDestroy(this.address);
  }

  /** The number of values of an attribute. */
  count(attribute: number, type: AttributeType): number {
    return this.read(attribute, TYPE[type].id, 0, null);
  }

  getInt64(attribute: number): number {
    const value = new BigInt64Array(1);
    this.read(attribute, TYPE.int64.id, 1, value);
    return Number(value[0]);
  }

  getBytes(attribute: number, size: number): Uint8Array {
    const bytes = new Uint8Array(size);
    return bytes.subarray(0, this.read(attribute, TYPE.char.id, size, bytes));
  }

  /** Fills descriptors with an attribute's values; returns how many there are. */
  fill(attribute: number, descriptors: Descriptor[]): number {
    const addresses = BigInt64Array.from(descriptors, ({ address }) => BigInt(address));
    return this.read(attribute, TYPE.descriptor.id, descriptors.length, addresses);
  }

  private put(attribute: number, type: number, count: number, bytes: Uint8Array): this {
    const code = this.cudnn.lib.set(this.address, attribute, type, count, bytes);
    this.cudnn.check(code, `attribute ${attribute} of a descriptor of type ${this.type}`);
    return this;
  }

  private read(attribute: number, type: number, requested: number, values: ArrayBufferView | null): number {
    const count = [0];
    const code = this.cudnn.lib.get(this.address, attribute, type, requested, count, values);
    this.cudnn.check(code, `reading attribute ${attribute} of a descriptor of type ${this.type}`);
    return Number(count[0]);
  }
}

function workspaceOf(plan: Descriptor): number {
  return plan.getInt64(ATTRIBUTE.planWorkspace);
}
