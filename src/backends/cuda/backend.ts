/**
 * The cuda backend of tfjs. Tensors are in device memory; activations are float32 to tfjs and stored in bf16 under that
 * precision. There is one stream and one caching allocator; only reading a tensor waits for the device.
 */
import {
  type BackendValues,
  DataStorage,
  type DataType,
  engine,
  KernelBackend,
  type TensorInfo,
} from '@tensorflow/tfjs-core';
import { roundedRows, shapesVary } from '../../ops/varying-shapes.js';
import { AttentionPlans } from './driver/attention-plans.js';
import type { Compiler } from './driver/compiler.js';
import type { CublasLt } from './driver/cublas.js';
import type { Cudnn } from './driver/cudnn.js';
import { DeviceTables } from './driver/device-tables.js';
import type { Address, Driver } from './driver/driver.js';
import { Downloads, Uploads } from './driver/host-copies.js';
import { type Argument, address, KernelLibrary, type LaunchShape, long } from './driver/kernel-library.js';
import { type Block, DeviceMemory, type MemoryUse } from './driver/memory.js';
import { type ActivationStorage, BYTES_PER_ELEMENT, type Storage } from './driver/storage.js';
import { ProductTuning } from './driver/tuning.js';
import { type KernelFile, kernelDigest } from './kernels/files.js';

export const CUDA = 'cuda';
/** Seconds after which a checked launch is an error. */
const LAUNCH_TIMEOUT_S = 10;

/** The data of a tensor, by its dataId. */
export interface DeviceData {
  block: Block;
  storage: Storage;
  elements: number;
  dtype: DataType;
  refCount: number;
  /** The bf16 copy of a float32 weight; a kernel that writes the weight updates or frees it. */
  shadow: Block | null;
  /** If rows of `width` elements are stored `pitch` elements apart; null if the elements are contiguous. */
  padding: Padding | null;
}

export interface Padding {
  width: number;
  pitch: number;
}

export interface CudaParts {
  driver: Driver;
  compiler: Compiler;
  cublas: CublasLt;
  cudnn: Cudnn;
}

export class CudaBackend extends KernelBackend {
  readonly driver: Driver;
  readonly cublas: CublasLt;
  readonly cudnn: Cudnn;
  readonly attentionPlans: AttentionPlans;
  readonly device: DeviceMemory;
  /** Tables that kernels read, such as the optimizer's. */
  readonly tables: DeviceTables;
  /** Storage of activations: bfloat16 under precision bf16. */
  activations: ActivationStorage = 'float32';
  /** Whether every run gives the same bits; slower, since the fastest algorithms sum in any order. */
  deterministic = false;
  /** Whether to wait after every launch, so that an error names its kernel; for tests and profiles. */
  synchronous = false;
  private recording = false;
  /** The number of recordings so far, and the numbers of those that were abandoned. */
  private recordings = 0;
  private readonly abandoned = new Set<number>();
  private readonly tuning: ProductTuning;
  private readonly library: KernelLibrary;
  private readonly uploads: Uploads;
  private readonly downloads: Downloads;
  private readonly data: DataStorage<DeviceData>;

  constructor(parts: CudaParts) {
    super();
    this.driver = parts.driver;
    this.cublas = parts.cublas;
    this.cudnn = parts.cudnn;
    const { driver } = parts;
    const gpu = `${driver.deviceName} ${driver.architecture} ${driver.driverVersion}`;
    this.attentionPlans = new AttentionPlans(parts.cudnn, gpu);
    this.device = new DeviceMemory(driver);
    driver.whenMemoryIsFull = () => this.device.trimLater();
    this.tables = new DeviceTables(this);
    this.library = new KernelLibrary(parts.driver, parts.compiler);
    this.uploads = new Uploads(parts.driver);
    this.downloads = new Downloads(parts.driver);
    this.data = new DataStorage(this, engine());
    // Some of the measured variants run kernels of elementwise.cu after a product.
    const measured = `cublasLt ${parts.cublas.version}, NVRTC ${parts.compiler.version}, ${kernelDigest('elementwise')}`;
    this.tuning = new ProductTuning(parts.driver, measured, () => !this.recording);
    // float32 is for accuracy, not for speed, and a measured choice may differ between runs.
    // The shapes of packed rows are many and short-lived: measuring each would take longer than the products.
    this.cublas.tuning = () =>
      this.deterministic || this.activations === 'float32' || shapesVary() ? null : this.tuning;
  }

  /**
   * A new tensor, uninitialised.
   *
   * @param capacity elements of its memory, if more than its own
   */
  create(shape: number[], storage: Storage, dtype: DataType, capacity = 0): TensorInfo {
    const dataId = {};
    this.put(dataId, shape, storage, dtype, 1, capacity);
    return { dataId, shape, dtype };
  }

  /** A new bf16 tensor whose rows are `pitch` elements apart, uninitialised. */
  createPadded(shape: number[], pitch: number): TensorInfo {
    const width = shape.at(-1) as number;
    const rows = shape.slice(0, -1).reduce((product, side) => product * side, 1);
    const tensor = this.create(shape, 'bfloat16', 'float32', rows * pitch);
    this.data.get(tensor.dataId).padding = { width, pitch };
    return tensor;
  }

  /** The data of a tensor, whose elements are contiguous: padding is removed on the device. */
  dataOf(tensor: TensorInfo): DeviceData {
    const data = this.data.get(tensor.dataId);
    if (data.padding !== null) this.pack(data, data.padding);
    return data;
  }

  /** The data of a tensor as it is stored, for kernels that know of padding. */
  storedDataOf(tensor: TensorInfo): DeviceData {
    return this.data.get(tensor.dataId);
  }

  launch(file: KernelFile, name: string, shape: LaunchShape, args: readonly Argument[]): void {
    this.library.launch(this.activations, file, name, shape, args);
    this.settle(name);
  }

  /** Launches a kernel whose blocks wait for each other. */
  launchCooperative(
    file: KernelFile,
    name: string,
    shape: LaunchShape & { grid: number },
    args: readonly Argument[],
  ): void {
    this.library.launchCooperative(this.activations, file, name, shape, args);
    this.settle(name);
  }

  /** Waits for the device if every launch is checked; an error names `what`. */
  settle(what: string): void {
    if (this.synchronous && !this.recording) this.driver.synchronizeWithin(LAUNCH_TIMEOUT_S, what);
  }

  /** Copies elements to another storage on the device. */
  convert(from: Address, fromStorage: Storage, to: Address, toStorage: Storage, elements: number): void {
    if (fromStorage === toStorage) {
      if (elements > 0) this.driver.copyOnDevice(to, from, elements * BYTES_PER_ELEMENT[toStorage]);
      return;
    }
    const name = `${fromStorage}To${toStorage[0]?.toUpperCase()}${toStorage.slice(1)}`;
    this.launch('elementwise', name, { grid: Math.ceil(elements / 1024), block: 256 }, [
      address(from),
      address(to),
      long(elements),
    ]);
  }

  /** Bytes in use now, at their peak, and reserved from the driver. */
  memoryUse(): MemoryUse {
    return this.device.memory();
  }

  /** Queues a copy of these bytes to the device. The caller may change them after this returns. */
  upload(to: Address, bytes: Uint8Array): void {
    if (this.recording) this.uploads.uploadRecorded(to, bytes);
    else this.uploads.upload(to, bytes);
  }

  /** Starts a recording: until endRecording, work is recorded and not run. */
  beginRecording(): void {
    this.tuning.save(); // the steps before it have measured their products
    this.driver.beginCapture();
    this.recording = true;
    this.recordings += 1;
  }

  /** The number of the current recording; 0 if work runs at once. */
  get recordedIn(): number {
    return this.recording ? this.recordings : 0;
  }

  /** Marks the current recording as abandoned: its work never runs. */
  abandonRecording(): void {
    this.abandoned.add(this.recordings);
  }

  /** Whether a recording was abandoned. */
  isAbandoned(recording: number): boolean {
    return this.abandoned.has(recording);
  }

  endRecording(): void {
    this.recording = false;
  }

  /** Replaces a tensor's values at the same address, which a recorded step reads. */
  overwrite(tensor: TensorInfo, values: Float32Array | Int32Array): void {
    const data = this.dataOf(tensor);
    if (data.storage === 'bfloat16' || values.length !== data.elements) {
      throw new Error('the values that overwrite a tensor must have its size and storage');
    }
    this.uploads.upload(data.block.address, bytesOf(values));
  }

  override write(values: BackendValues, shape: number[], dtype: DataType): object {
    const dataId = {};
    this.move(dataId, values, shape, dtype, 1);
    return dataId;
  }

  override move(
    dataId: object,
    values: BackendValues,
    shape: number[],
    dtype: DataType,
    refCount: number,
  ): void {
    const storage: Storage = dtype === 'int32' ? 'int32' : 'float32';
    const data = this.put(dataId, shape, storage, dtype, refCount);
    if (values === null || values === undefined) return;
    // A single number is a constant, the same in every replay; several numbers would be those of this step only.
    if (this.recording && data.elements > 1)
      throw new Error('a recorded step cannot read values from the host');
    this.upload(data.block.address, bytesOf(storage === 'int32' ? ints(values) : floats(values)));
  }

  override readSync(dataId: object): BackendValues {
    return this.asValues(dataId, (from, size) => this.downloads.now(from, size));
  }

  override async read(dataId: object): Promise<BackendValues> {
    let pending: Promise<Uint8Array> = Promise.resolve(new Uint8Array(0));
    this.asValues(dataId, (from, size) => {
      pending = this.downloads.later(from, size);
      return new Uint8Array(size);
    });
    const { dtype } = this.data.get(dataId);
    return valuesOf(await pending, dtype);
  }

  override disposeData(dataId: object, force = false): boolean {
    if (!this.data.has(dataId)) return true;
    const data = this.data.get(dataId);
    data.refCount -= 1;
    if (data.refCount > 0 && !force) return false;
    this.device.release(data.block);
    this.dropShadow(data);
    this.data.delete(dataId);
    return true;
  }

  /** Frees the bf16 copy of a weight that is about to change. */
  dropShadow(data: DeviceData): void {
    if (data.shadow !== null) this.device.release(data.shadow);
    data.shadow = null;
  }

  override refCount(dataId: object): number {
    return this.data.has(dataId) ? this.data.get(dataId).refCount : 0;
  }

  override incRef(dataId: object): void {
    this.data.get(dataId).refCount += 1;
  }

  override numDataIds(): number {
    return this.data.numDataIds();
  }

  override memory(): { unreliable: boolean } {
    return { unreliable: false };
  }

  override floatPrecision(): 32 {
    return 32;
  }

  override epsilon(): number {
    return 1e-7;
  }

  override timerAvailable(): boolean {
    return false;
  }

  private put(
    dataId: object,
    shape: number[],
    storage: Storage,
    dtype: DataType,
    refCount: number,
    capacity = 0,
  ): DeviceData {
    if (dtype !== 'float32' && dtype !== 'int32' && dtype !== 'bool') {
      throw new Error(`the cuda backend does not support tensors of ${dtype}`);
    }
    const elements = shape.reduce((product, side) => product * side, 1);
    const [first, rows = 0] = shape;
    // Memory for the products of the next size up, see `productRows`.
    if (shapesVary() && shape.length === 3 && first === 1)
      capacity = Math.max(capacity, roundedRows(rows) * (elements / rows));
    const block = this.device.allocate(Math.max(elements, capacity) * BYTES_PER_ELEMENT[storage]);
    const data: DeviceData = { block, storage, elements, dtype, refCount, shadow: null, padding: null };
    this.data.set(dataId, data);
    return data;
  }

  /** Moves the rows of a padded bf16 tensor together, in other memory. */
  private pack(data: DeviceData, { width, pitch }: Padding): void {
    const packed = this.device.allocate(data.elements * BYTES_PER_ELEMENT[data.storage]);
    this.launch('elementwise', 'packRows', { grid: Math.ceil(data.elements / 256), block: 256 }, [
      address(data.block.address),
      address(packed.address),
      long(data.elements),
      width,
      pitch,
    ]);
    this.device.release(data.block); // its next use is later in the stream
    data.block = packed;
    data.padding = null;
  }

  /** The values of a tensor, which `download` copies from the device; bf16 is converted to float32 there. */
  private asValues(dataId: object, download: (from: Address, bytes: number) => Uint8Array): BackendValues {
    const data = this.dataOf({ dataId, shape: [], dtype: 'float32' });
    if (data.storage !== 'bfloat16') {
      return valuesOf(download(data.block.address, 4 * data.elements), data.dtype);
    }
    const wide = this.device.allocate(4 * data.elements);
    try {
      this.convert(data.block.address, 'bfloat16', wide.address, 'float32', data.elements);
      return valuesOf(download(wide.address, 4 * data.elements), data.dtype);
    } finally {
      this.device.release(wide); // the download is queued before the block's next use
    }
  }
}

/** Device bytes as values of a dtype. bool is stored as float32: 0 or 1. */
function valuesOf(bytes: Uint8Array, dtype: DataType): BackendValues {
  if (dtype === 'int32') return new Int32Array(bytes.buffer, bytes.byteOffset, bytes.length / 4);
  const values = new Float32Array(bytes.buffer, bytes.byteOffset, bytes.length / 4);
  return dtype === 'bool' ? Uint8Array.from(values) : values;
}

function floats(values: BackendValues): Float32Array {
  return values instanceof Float32Array ? values : Float32Array.from(values as Uint8Array);
}

function ints(values: BackendValues): Int32Array {
  return values instanceof Int32Array ? values : Int32Array.from(values as Uint8Array);
}

function bytesOf(values: Float32Array | Int32Array): Uint8Array {
  return new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
}
