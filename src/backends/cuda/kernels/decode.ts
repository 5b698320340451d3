/** Decoding on cuda: all steps of some tokens in one launch of a kernel whose blocks stay and wait for each other. */
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

// As kernels/decode.cu and its parts have them.
const THREADS = 512;
const WARPS = THREADS / 32;
const TILE = 8;
const MOST_TILES = 3;
const LARGEST_HEAD = 256;
const LAYER_WORDS = 11;
/** Shared memory of the kernel's own variables, and some more. */
const STATIC_SHARED = 2048;

/** Room that a routed block's cache gets beyond what is needed at once. */
const SLACK_TOKENS = 64;

export class CudaDecodeLoops implements DecodeLoops {
  constructor(private readonly backend: CudaBackend) {}

  refuses(model: LoopModel, sequences: number): string | null {
    const { size, F } = sidesOf(model);
    if (size % TILE !== 0 || size > LARGEST_HEAD)
      return `heads of ${size} are no multiple of ${TILE} up to ${LARGEST_HEAD}`;
    if (F % TILE !== 0) return `a hidden layer of ${F} is no multiple of ${TILE}`;
    const shared = sharedBytes(this.backend, model, sequences);
    if (shared > this.backend.driver.sharedMemory - STATIC_SHARED)
      return `${sequences} sequences are too many for this GPU's shared memory`;
    return null;
  }

  start(model: LoopModel, start: LoopStart): DecodeLoop {
    return new CudaDecodeLoop(this.backend, model, start);
  }
}

/** A block's keys and values: [S, 2, H, slots, K], stored as activations are. */
interface Cache {
  block: Block;
  slots: number;
  /** Tokens of each sequence, as far as steps have been awaited. */
  lengths: Int32Array;
  isRouted: boolean;
}

class CudaDecodeLoop implements DecodeLoop {
  /** Holds what lives as long as the loop. */
  private readonly call: Call;
  private readonly sequences: number;
  private readonly sides: ReturnType<typeof sidesOf>;
  private readonly kept: Cache[];
  private readonly layers: Address;
  /** The barrier's counter and those of items that blocks share. */
  private readonly arrived: Address;
  private readonly arrivedBytes: number;
  private readonly logitsAt: Address;
  private readonly weights: BigUint64Array;
  /** The kernel's arguments around those that change with every launch. */
  private readonly before: Argument[];
  private readonly state: Argument[];
  private readonly buffers: Argument[];
  private readonly routed: number;
  private readonly shared: number;
  /** Steps that are queued and not awaited yet: caches may have grown by as many tokens. */
  private underWay = 0;

  constructor(
    private readonly backend: CudaBackend,
    private readonly model: LoopModel,
    private readonly given: LoopStart,
  ) {
    this.call = new Call(backend);
    this.sequences = given.tokens.length;
    this.sides = sidesOf(model);
    const { call, sequences: S } = this;
    const { D, F, V } = this.sides;
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
      address(this.folded(model.head, model.finalNorm)),
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
      address(call.scratch(4 * multiprocessors * (this.sides.size + 2))),
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
    const { backend, sequences: S, sides, model } = this;
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
    const { D, F, V, P } = sides;
    const shape = { grid: backend.driver.multiprocessors, block: THREADS, shared: this.shared };
    backend.launchTogether('decode', 'decodeTokens', shape, [
      ...this.before,
      address(draws),
      ...this.state,
      address(at),
      address(at + 4 * drawn),
      ...this.buffers,
      double(this.given.topP),
      ...[model.blocks.length, this.routed, S, steps, D, model.heads, F, V, P, GATE_CODES[model.gate]],
      float(this.given.temperature),
    ]);
    call.end();
    this.underWay += steps;
    const values = (await out.data()) as Int32Array;
    out.dispose();
    const result = { tokens: values.slice(0, drawn), mask: values.slice(drawn, drawn + decided) };
    this.count(result.mask, steps);
    return result;
  }

  logits(): Tensor {
    const { V } = this.sides;
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

  /** Adds what awaited steps left in the caches. */
  private count(mask: Int32Array, steps: number): void {
    this.underWay -= steps;
    const S = this.sequences;
    let routed = 0;
    for (const { lengths, isRouted } of this.kept) {
      for (let i = 0; i < steps * S; i++) {
        const [step, s] = [Math.floor(i / S), i % S];
        const took = isRouted ? (mask[(step * this.routed + routed) * S + s] as number) : 1;
        lengths[s] = (lengths[s] as number) + took;
      }
      if (isRouted) routed += 1;
    }
  }

  /** Grows every cache that cannot hold this many more tokens. */
  private growCaches(steps: number): void {
    const short = this.kept.filter(
      ({ lengths, slots }) => slots < Math.max(...lengths) + this.underWay + steps,
    );
    if (short.length === 0) return;
    for (const cache of short) {
      const needed = Math.max(...cache.lengths) + this.underWay + steps;
      if (needed > this.model.maxTokens && !cache.isRouted)
        throw new RangeError(`the model was made for ${this.model.maxTokens} tokens`);
      const slots = Math.max(needed, Math.min(this.model.maxTokens, needed + SLACK_TOKENS));
      const { block: old, slots: before } = cache;
      Object.assign(cache, { block: this.cacheBlock(slots), slots });
      this.copyRows(old.address, this.stridesOf(before), cache, before);
      this.backend.device.release(old); // whoever gets it is queued behind the copy
    }
    this.writeLayers();
  }

  /** A block's cache as reading the prompts left it. */
  private filledCache(i: number): Cache {
    const { kv, lengths } = this.given.caches[i] as LoopStart['caches'][number];
    const isRouted = this.model.blocks[i]?.routed !== null;
    const L = kv.shape[1] as number;
    const slots = isRouted ? L : this.model.maxTokens;
    const cache = { block: this.cacheBlock(slots), slots, lengths: Int32Array.from(lengths), isRouted };
    const call = new Call(this.backend);
    const { D, size } = this.sides;
    this.copyRows(call.activation(kv), [L * 2 * D, size, 2 * D, 1], cache, Math.max(...lengths));
    call.end();
    return cache;
  }

  private cacheBlock(slots: number): Block {
    const { activations, device } = this.backend;
    return device.allocate(BYTES_PER_ELEMENT[activations] * this.sequences * slots * 2 * this.sides.D);
  }

  /** Of [S, 2H, slots, K]. */
  private stridesOf(slots: number): number[] {
    const { size } = this.sides;
    return [2 * this.model.heads * slots * size, slots * size, size, 1];
  }

  /** Copies the first tokens of each sequence from somewhere into a cache. */
  private copyRows(from: Address, strides: number[], cache: Cache, tokens: number): void {
    if (tokens === 0) return;
    const target = { at: cache.block.address, first: 0, strides: this.stridesOf(cache.slots) };
    stridedCopy(this.call, this.backend.activations, { at: from, first: 0, strides }, target, [
      this.sequences,
      2 * this.model.heads,
      tokens,
      this.sides.size,
    ]);
  }

  /** struct Layer of kernels/decode.cu; the cache's address and slots are filled in by writeLayers. */
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
    return addresses.map(BigInt);
  }

  private writeLayers(): void {
    this.kept.forEach(({ block, slots }, i) => {
      this.weights[i * LAYER_WORDS + 4] = BigInt(block.address);
      this.weights[i * LAYER_WORDS + 10] = BigInt(slots);
    });
    this.backend.upload(this.layers, new Uint8Array(this.weights.buffer));
  }

  /** A weight with the gain of the norm before it taken in. */
  private folded(weight: Tensor, gain: Tensor): Address {
    const { call } = this;
    const out = call.scratch(weight.size * BYTES_PER_ELEMENT[this.backend.activations]);
    const shape = { grid: Math.ceil(weight.size / (8 * 256)), block: 256 };
    call.launch('decode', 'foldGain', shape, [
      address(call.float(weight)),
      address(call.float(gain)),
      address(out),
      long(weight.size),
      gain.size,
    ]);
    return out;
  }
}

/** Sides of the model: width D, MLP F, vocabulary V, and the like. */
function sidesOf({ tokenEmbedding, blocks, heads }: LoopModel) {
  const [V, D] = tokenEmbedding.shape as [number, number];
  const [first] = blocks as [LoopBlock];
  const fc1 = blocks.find(({ routed }) => routed !== null)?.routed?.predictor?.fc1;
  return { V, D, F: first.up.shape[0] as number, P: fc1?.shape[0] ?? 0, size: D / heads };
}

/** Dynamic shared memory: the layers, counts and rows of each sequence, and a phase's scratch, as decode.cu lays it out. */
function sharedBytes(backend: CudaBackend, model: LoopModel, sequences: number): number {
  const { length: layers } = model.blocks;
  const kept = 8 * LAYER_WORDS * layers + 4 * sequences * (layers + 4);
  const tiles = backend.activations === 'float32' ? 1 : MOST_TILES;
  const product = WARPS * 16 * (TILE * tiles + 1);
  const attention = WARPS * (sidesOf(model).size + 2);
  return 16 * Math.ceil(kept / 16) + 4 * Math.max(product, attention, 2 * WARPS);
}
