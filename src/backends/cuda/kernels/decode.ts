/** Decoding on the device by decode.cu: one launch runs several steps, whose blocks are synchronized by grid barriers. */
import type { Tensor } from '@tensorflow/tfjs-core';
import type {
  DecodeLoop,
  DecodeLoops,
  LoopBlock,
  LoopModel,
  LoopStart,
  LoopSteps,
} from '../../../ops/decode-loop.js';
import type { CudaBackend } from '../backend.js';
import { Call } from '../driver/call.js';
import type { Address } from '../driver/driver.js';
import { type Argument, address, double, float, long } from '../driver/kernel-library.js';
import type { Block } from '../driver/memory.js';
import { BYTES_PER_ELEMENT } from '../driver/storage.js';
import { GATE_CODES } from './gate.js';
import { stridedCopy } from './strided-copy.js';

// Constants of decode.cu and the files that it includes.
const THREADS = 512;
const WARPS = THREADS / 32;
const TILE = 8;
const MAX_TILES = 3;
const LARGEST_HEAD = 256;
const LAYER_WORDS = 12;
/** Bytes of static shared memory, rounded up. */
const STATIC_SHARED = 2048;

/** Slots that a growing cache of a routed block gets in addition to those that the next steps need. */
const SLACK_TOKENS = 64;

export class CudaDecodeLoops implements DecodeLoops {
  constructor(private readonly backend: CudaBackend) {}

  problem(model: LoopModel, sequences: number): string | null {
    const { size, D, F, V } = sizesOf(model);
    if (D * Math.max(V, F) >= 2 ** 31) return 'a matrix of the model has 2^31 numbers or more';
    if (size % TILE !== 0 || size > LARGEST_HEAD)
      return `the head size ${size} is not a multiple of ${TILE} up to ${LARGEST_HEAD}`;
    if (F % TILE !== 0) return `d_ff ${F} is not a multiple of ${TILE}`;
    const shared = sharedBytes(this.backend, model, sequences);
    if (shared > this.backend.driver.sharedMemory - STATIC_SHARED)
      return `${sequences} sequences do not fit in this GPU's shared memory`;
    return null;
  }

  start(model: LoopModel, start: LoopStart): DecodeLoop {
    return new CudaDecodeLoop(this.backend, model, start);
  }
}

/** Keys and values of a block: [S, 2, H, slots, K], stored as activations are. */
interface Cache {
  block: Block;
  slots: number;
  /** Tokens of each sequence, up to the last step that was awaited. */
  lengths: Int32Array;
  isRouted: boolean;
}

class CudaDecodeLoop implements DecodeLoop {
  /** Owns the memory of the loop. */
  private readonly call: Call;
  private readonly sequences: number;
  private readonly sizes: ReturnType<typeof sizesOf>;
  private readonly kept: Cache[];
  private readonly layers: Address;
  /** Counters of the barrier, and of heads that several blocks share. */
  private readonly arrived: Address;
  private readonly arrivedBytes: number;
  private readonly logitsAt: Address;
  private readonly weights: BigUint64Array;
  // The kernel's arguments that are the same in every launch, in three groups.
  private readonly before: Argument[];
  private readonly state: Argument[];
  private readonly buffers: Argument[];
  private readonly routed: number;
  private readonly shared: number;
  /** Steps that are queued and not awaited, each of which may add a token to the caches. */
  private pendingSteps = 0;

  constructor(
    private readonly backend: CudaBackend,
    private readonly model: LoopModel,
    private readonly given: LoopStart,
  ) {
    this.call = new Call(backend);
    this.sequences = given.tokens.length;
    this.sizes = sizesOf(model);
    const { call, sequences: S } = this;
    const { D, F, V } = this.sizes;
    this.routed = model.blocks.filter(({ routed }) => routed !== null).length;
    this.shared = sharedBytes(backend, model, S);
    this.kept = model.blocks.map((_, i) => this.filledCache(i));
    this.weights = new BigUint64Array(LAYER_WORDS * model.blocks.length);
    model.blocks.forEach((block, i) => {
      this.weights.set(this.weightsOf(block), i * LAYER_WORDS);
    });
    this.layers = call.scratch(this.weights.byteLength);
    const { multiprocessors } = backend.driver;
    this.arrivedBytes = 4 * (1 + 2 * multiprocessors);
    this.arrived = call.scratch(this.arrivedBytes);
    this.logitsAt = call.scratch(4 * S * V);
    const lengths = Int32Array.from(given.caches.flatMap((cache) => [...cache.lengths]));
    const activations = (elements: number) =>
      address(call.scratch(elements * BYTES_PER_ELEMENT[backend.activations]));
    const bytesOfDecisions = 8 * Math.max(1, this.routed) * S;
    this.before = [
      address(this.layers),
      address(call.float(model.tokenEmbedding)),
      address(this.folded(model.head, model.finalNorm, model.logitsMultiplier)),
      address(call.float(model.table)),
    ];
    this.state = [
      ...[given.tokens, given.positions].map((values) => address(call.upload(values))),
      address(call.upload(lengths)),
    ];
    this.buffers = [
      ...Array.from({ length: 5 }, () => activations(S * D)),
      activations(S * F),
      address(this.logitsAt),
      address(call.scratch(bytesOfDecisions)),
      address(call.scratch(4 * multiprocessors * (this.sizes.size + 2))),
      address(this.arrived),
    ];
    this.writeLayers();
  }

  async ready(): Promise<void> {
    const one = this.call.make([1], 'float32');
    await one.data();
    one.dispose();
  }

  async run(uniforms: Float64Array): Promise<LoopSteps> {
    const { backend, sequences: S, sizes, model } = this;
    const steps = uniforms.length / S;
    this.growCaches(steps);
    const [drawn, decided] = [steps * S, steps * this.routed * S];
    const out = this.call.make([Math.max(1, drawn + decided)], 'int32');
    const call = new Call(backend);
    const bytes = new Uint8Array(uniforms.buffer, uniforms.byteOffset, uniforms.byteLength);
    const draws = call.scratch(bytes.length);
    backend.upload(draws, bytes);
    backend.driver.zero(this.arrived, this.arrivedBytes);
    const at = call.at(out);
    const { D, F, V, P } = sizes;
    const shape = { grid: backend.driver.multiprocessors, block: THREADS, shared: this.shared };
    backend.launchCooperative('decode', 'decodeTokens', shape, [
      ...this.before,
      address(draws),
      ...this.state,
      address(at),
      address(at + 4 * drawn),
      ...this.buffers,
      double(this.given.topP),
      ...[model.blocks.length, this.routed, S, steps, D, model.heads, F, V, P, GATE_CODES[model.gate]],
      float(this.given.temperature),
      float(model.residualMultiplier),
    ]);
    call.end();
    this.pendingSteps += steps;
    const values = (await out.data()) as Int32Array;
    out.dispose();
    const result = { tokens: values.slice(0, drawn), mask: values.slice(drawn, drawn + decided) };
    this.addLengths(result.mask, steps);
    return result;
  }

  logits(): Tensor {
    const { V } = this.sizes;
    const copy = this.call.make([this.sequences, V], 'float32');
    this.backend.driver.copyOnDevice(this.call.at(copy), this.logitsAt, 4 * this.sequences * V);
    return copy;
  }

  caches(): { lengths: Int32Array; slots: number }[] {
    return this.kept;
  }

  dispose(): void {
    for (const { block } of this.kept) this.backend.device.release(block);
    this.call.end();
  }

  /** Adds the tokens of awaited steps to the caches' lengths. */
  private addLengths(mask: Int32Array, steps: number): void {
    this.pendingSteps -= steps;
    const S = this.sequences;
    let routed = 0;
    for (const { lengths, isRouted } of this.kept) {
      for (let i = 0; i < steps * S; i++) {
        const [step, s] = [Math.floor(i / S), i % S];
        const added = isRouted ? (mask[(step * this.routed + routed) * S + s] as number) : 1;
        lengths[s] = (lengths[s] as number) + added;
      }
      if (isRouted) routed += 1;
    }
  }

  /** Grows every cache that cannot hold this many more tokens. */
  private growCaches(steps: number): void {
    const short = this.kept.filter(
      ({ lengths, slots }) => slots < Math.max(...lengths) + this.pendingSteps + steps,
    );
    if (short.length === 0) return;
    for (const cache of short) {
      const needed = Math.max(...cache.lengths) + this.pendingSteps + steps;
      if (needed > this.model.maxTokens && !cache.isRouted)
        throw new RangeError(`a sequence is longer than the decoder's ${this.model.maxTokens} tokens`);
      const slots = Math.max(needed, Math.min(this.model.maxTokens, needed + SLACK_TOKENS));
      const { block: old, slots: before } = cache;
      Object.assign(cache, { block: this.cacheBlock(slots), slots });
      this.copyRows(old.address, this.stridesOf(before), cache, before);
      this.backend.device.release(old); // its next use is queued after the copy
    }
    this.writeLayers();
  }

  /** Copies the cache that block i has after the prompts. */
  private filledCache(i: number): Cache {
    const { kv, lengths } = this.given.caches[i] as LoopStart['caches'][number];
    const isRouted = this.model.blocks[i]?.routed !== null;
    const L = kv.shape[1] as number;
    const slots = isRouted ? L : this.model.maxTokens;
    const cache = { block: this.cacheBlock(slots), slots, lengths: Int32Array.from(lengths), isRouted };
    const call = new Call(this.backend);
    const { D, size } = this.sizes;
    this.copyRows(call.activation(kv), [L * 2 * D, size, 2 * D, 1], cache, Math.max(...lengths));
    call.end();
    return cache;
  }

  private cacheBlock(slots: number): Block {
    const { activations, device } = this.backend;
    return device.allocate(BYTES_PER_ELEMENT[activations] * this.sequences * slots * 2 * this.sizes.D);
  }

  /** Strides of [S, 2H, slots, K]. */
  private stridesOf(slots: number): number[] {
    const { size } = this.sizes;
    return [2 * this.model.heads * slots * size, slots * size, size, 1];
  }

  /** Copies the first tokens of each sequence into a cache. */
  private copyRows(from: Address, strides: number[], cache: Cache, tokens: number): void {
    if (tokens === 0) return;
    const target = { at: cache.block.address, first: 0, strides: this.stridesOf(cache.slots) };
    stridedCopy(this.call, this.backend.activations, { at: from, first: 0, strides }, target, [
      this.sequences,
      2 * this.model.heads,
      tokens,
      this.sizes.size,
    ]);
  }

  /** struct Layer of decode.cu; writeLayers fills in the cache's address and slots. */
  private weightsOf({ attnNorm, qkv, attnOut, mlpNorm, up, down, routed }: LoopBlock): bigint[] {
    const { call } = this;
    const predictor = routed?.predictor ?? null;
    const addresses = [
      this.folded(qkv, attnNorm),
      call.weight(attnOut),
      this.folded(up, mlpNorm),
      call.weight(down),
      0,
      routed === null ? 0 : call.float(routed.router),
      ...(predictor === null
        ? [0, 0, 0, 0]
        : [
            call.weight(predictor.fc1),
            ...[predictor.fc1Bias, predictor.fc2, predictor.fc2Bias].map((each) => call.float(each)),
          ]),
      0,
    ];
    return [...addresses.map(BigInt), floatBits(routed?.above ?? 0)];
  }

  private writeLayers(): void {
    this.kept.forEach(({ block, slots }, i) => {
      this.weights[i * LAYER_WORDS + 4] = BigInt(block.address);
      this.weights[i * LAYER_WORDS + 10] = BigInt(slots);
    });
    this.backend.upload(this.layers, new Uint8Array(this.weights.buffer));
  }

  /** A weight multiplied by the gain of the norm before it. */
  private folded(weight: Tensor, gain: Tensor, factor = 1): Address {
    const { call } = this;
    const out = call.scratch(weight.size * BYTES_PER_ELEMENT[this.backend.activations]);
    const shape = { grid: Math.ceil(weight.size / (8 * 256)), block: 256 };
    call.launch('decode', 'foldGain', shape, [
      address(call.float(weight)),
      address(call.float(gain)),
      address(out),
      long(weight.size),
      gain.size,
      float(factor),
    ]);
    return out;
  }
}

/** A float32 in the lower half of a word. */
function floatBits(value: number): bigint {
  return BigInt(new Uint32Array(Float32Array.of(value).buffer)[0] as number);
}

/** Sizes of the model: vocabulary V, width D, MLP F, predictor P (0 without one), head size. */
function sizesOf({ tokenEmbedding, blocks, heads }: LoopModel) {
  const [V, D] = tokenEmbedding.shape as [number, number];
  const [first] = blocks as [LoopBlock];
  const fc1 = blocks.find(({ routed }) => routed !== null)?.routed?.predictor?.fc1;
  return { V, D, F: first.up.shape[0], P: fc1?.shape[0] ?? 0, size: D / heads };
}

/** Bytes of dynamic shared memory, as laid out by layOut of decode.cu: the layers, lengths and rows of the sequences, scratch. */
function sharedBytes(backend: CudaBackend, model: LoopModel, sequences: number): number {
  const { length: layers } = model.blocks;
  const kept = 8 * LAYER_WORDS * layers + 4 * sequences * (layers + 4);
  const tiles = backend.activations === 'float32' ? 1 : MAX_TILES;
  const product = WARPS * 16 * (TILE * tiles + 1);
  const attention = WARPS * (sizesOf(model).size + 2);
  return 16 * Math.ceil(kept / 16) + 4 * Math.max(product, attention, 2 * WARPS);
}
