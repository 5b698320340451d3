/** cuDNN's attention: a plan for each shape, cached in memory and, with its compiled kernel, on disk. */
import { createHash } from 'node:crypto';
import { DeviceMemoryError } from '../../../errors.js';
import { koffi } from '../../../ffi.js';
import { type AttentionShape, backwardGraph, forwardGraph, GRAPH_DIGEST, TENSOR } from './attention-graph.js';
import type { Cudnn, CudnnPlan } from './cudnn.js';
import { cacheFile, kernelCacheFolder, readCache, writeCache } from './disk-cache.js';
import type { Address } from './driver.js';

/** The three graphs. */
export type AttentionPass = 'forward' | 'backward' | 'deterministic backward';

/** Head sizes that cuDNN supports are multiples of 8: up to the first on every GPU, up to the second on some. */
const LARGEST_HEAD = 128;
const LARGEST_HEAD_OF_SOME = 256;
const PASSES: readonly AttentionPass[] = ['forward', 'backward', 'deterministic backward'];

/** Allocates a by-value tensor of a graph: a float at a fixed address in host memory. */
function hostScalar(value: number): Address {
  const at = koffi.alloc('float', 1) as bigint;
  koffi.encode(at, 'float', value);
  return Number(at);
}

export class AttentionPlans {
  private readonly plans = new Map<string, CudnnPlan>();
  /** Whether shapes with heads that only some GPUs support have plans here. */
  private readonly large = new Map<string, boolean>();
  private readonly scales = new Map<number, Address>();
  private readonly minusInfinity = hostScalar(Number.NEGATIVE_INFINITY);
  private readonly one = hostScalar(1);

  constructor(
    private readonly cudnn: Cudnn,
    /** The GPU: a plan's kernel is compiled for it. */
    private readonly device: string,
    private readonly folder = kernelCacheFolder(),
  ) {}

  /** Whether cuDNN computes attention of a shape on this GPU; attention.cu has kernels for all other shapes. */
  supports(shape: AttentionShape): boolean {
    const { batch, heads, n, size } = shape;
    if (size % 8 !== 0 || size > LARGEST_HEAD_OF_SOME || n <= 1) return false;
    if (size <= LARGEST_HEAD) return true;
    const key = `${batch} ${heads} ${n} ${size}`;
    const supported = this.large.get(key) ?? PASSES.every((pass) => this.canPlan(pass, shape));
    this.large.set(key, supported);
    return supported;
  }

  /** The plan of a shape: from memory, else from disk, else a new plan, which is stored on disk. */
  plan(pass: AttentionPass, shape: AttentionShape): CudnnPlan {
    const { batch, heads, n, size } = shape;
    const key = `${pass} ${batch} ${heads} ${n} ${size}`;
    const known = this.plans.get(key);
    if (known !== undefined) return known;
    const digest = createHash('sha256')
      .update(`${this.cudnn.version}\0${this.device}\0${GRAPH_DIGEST}\0${key}`)
      .digest('hex');
    const path = cacheFile(this.folder, `attention-${digest.slice(0, 32)}.json`);
    const plan = this.fromDisk(path) ?? this.make(pass, shape, path);
    this.plans.set(key, plan);
    return plan;
  }

  /** The by-value tensors of a pass. */
  scalars(pass: AttentionPass, size: number): (readonly [id: number, at: Address])[] {
    let scale = this.scales.get(size);
    if (scale === undefined) {
      scale = hostScalar(1 / Math.sqrt(size));
      this.scales.set(size, scale);
    }
    const common = [[TENSOR.scale, scale] as const, [TENSOR.minusInfinity, this.minusInfinity] as const];
    return pass === 'forward' ? common : [...common, [TENSOR.one, this.one] as const];
  }

  private canPlan(pass: AttentionPass, shape: AttentionShape): boolean {
    try {
      this.plan(pass, shape);
      return true;
    } catch (error) {
      if (error instanceof DeviceMemoryError) throw error;
      return false;
    }
  }

  private fromDisk(path: string | null): CudnnPlan | null {
    const json = readCache(path);
    if (json === null) return null;
    try {
      return this.cudnn.planFromJson(json);
    } catch (error) {
      if (error instanceof DeviceMemoryError) throw error;
      return null; // a plan of another cuDNN or GPU: a new one replaces it
    }
  }

  private make(pass: AttentionPass, shape: AttentionShape, path: string | null): CudnnPlan {
    const operations =
      pass === 'forward'
        ? forwardGraph(this.cudnn, shape)
        : backwardGraph(this.cudnn, shape, pass === 'deterministic backward');
    const plan = this.cudnn.plan(operations);
    writeCache(path, this.cudnn.planJson(plan));
    return plan;
  }
}
