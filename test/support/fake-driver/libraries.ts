/** The fakes of NVRTC, cuBLASLt and cuDNN: descriptors keep their attributes, products and attention check their memory. */
import type { FakeStream } from './cuda.js';
import type { FakeDevice, Range } from './device.js';
import type { NativeFunctions } from './native.js';

const BYTES_PER_TYPE: Record<number, number> = { 0: 4, 2: 2, 14: 2 };

/** NVRTC 13.0: the machine code of a source is its file's name. */
export function nvrtcFunctions(device: FakeDevice): NativeFunctions {
  const programs = new Map<number, string>();
  const give = (out: number[], value: number) => {
    out[0] = value;
    return 0;
  };
  const nameOf = (program: number) => programs.get(Number(program)) ?? '';
  return {
    nvrtcVersion: (major: number[], minor: number[]) => give(major, 13) || give(minor, 0),
    nvrtcGetNumSupportedArchs: (out: number[]) => give(out, 5),
    nvrtcGetSupportedArchs: (archs: Int32Array) => {
      archs.set([80, 86, 89, 90, 100]);
      return 0;
    },
    nvrtcCreateProgram: (out: number[], _source: string, name: string) => {
      const program = device.handle();
      programs.set(program, name);
      return give(out, program);
    },
    nvrtcCompileProgram: () => 0,
    nvrtcGetProgramLogSize: (_program: number, out: number[]) => give(out, 0),
    nvrtcGetProgramLog: () => 0,
    nvrtcGetCUBINSize: (program: number, out: number[]) => give(out, nameOf(program).length),
    nvrtcGetCUBIN: (program: number, cubin: Buffer) => {
      cubin.write(nameOf(program));
      return 0;
    },
    nvrtcDestroyProgram: ([program]: number[]) => {
      programs.delete(program as number);
      return 0;
    },
  };
}

interface Layout {
  type: number;
  rows: number;
  columns: number;
  stride: number;
  batches: number;
  batchStride: number;
}

/** cublasLtMatrixLayoutAttribute_t */
const LAYOUT = { stride: 4, batchCount: 5, batchOffset: 6 } as const;
/** cublasLtMatmulHeuristicResult_t */
const RESULT_BYTES = 96;
/** Algorithms that the fake knows of for every product. */
const ALGORITHMS = 3;

/** cuBLASLt 13.0. */
export function cublasFunctions(device: FakeDevice, stream: FakeStream): NativeFunctions {
  const layouts = new Map<number, Layout>();
  const give = (out: number[]) => {
    out[0] = device.handle();
    return 0;
  };
  const rangeOf = (address: number, layout: number): Range => {
    const { type, columns, rows, stride, batches, batchStride } = layouts.get(Number(layout)) as Layout;
    const last = (batches - 1) * batchStride + (columns - 1) * stride + rows;
    return { address: Number(address), bytes: last * (BYTES_PER_TYPE[type] as number) };
  };
  return {
    cublasLtGetVersion: () => 130_000,
    cublasLtCreate: give,
    cublasLtMatmulDescCreate: give,
    cublasLtMatmulDescSetAttribute: () => 0,
    cublasLtMatmulDescDestroy: () => 0,
    cublasLtMatrixLayoutCreate: (
      out: number[],
      type: number,
      rows: number,
      columns: number,
      stride: number,
    ) => {
      give(out);
      const layout = { type, rows: Number(rows), columns: Number(columns), stride: Number(stride) };
      layouts.set(out[0] as number, { ...layout, batches: 1, batchStride: 0 });
      return 0;
    },
    cublasLtMatrixLayoutSetAttribute: (
      id: number,
      attribute: number,
      value: ArrayBufferView,
      bytes: number,
    ) => {
      const layout = layouts.get(Number(id)) as Layout;
      const view = new DataView(value.buffer, value.byteOffset);
      const number = bytes === 8 ? Number(view.getBigInt64(0, true)) : view.getInt32(0, true);
      if (attribute === LAYOUT.batchCount) layout.batches = number;
      else if (attribute === LAYOUT.batchOffset) layout.batchStride = number;
      else if (attribute === LAYOUT.stride) layout.stride = number;
      else throw new Error(`the fake driver has no layout attribute ${attribute}`);
      return 0;
    },
    cublasLtMatrixLayoutDestroy: () => 0,
    cublasLtMatmulPreferenceCreate: give,
    cublasLtMatmulPreferenceSetAttribute: () => 0,
    cublasLtMatmulAlgoGetHeuristic: (...args: never[]) => {
      const [requested, results, found] = args.slice(7) as unknown as [number, Uint8Array, number[]];
      const count = Math.min(requested, ALGORITHMS);
      for (let i = 0; i < count; i++) results[RESULT_BYTES * i] = i + 1;
      found[0] = count;
      return 0;
    },
    cublasLtMatmul: (...args: never[]) => {
      const [a, layoutA, b, layoutB, , , , d, layoutD] = args.slice(3) as unknown as number[];
      const ranges = [
        [a, layoutA],
        [b, layoutB],
        [d, layoutD],
      ].map(([address, layout]) => rangeOf(address as number, layout as number));
      const workspace = { address: Number(args[13]), bytes: Number(args[14]) };
      stream.run([...ranges, workspace], 'a product');
      return 0;
    },
  };
}

interface Descriptor {
  type: number;
  attributes: Map<number, number[]>;
  /** Descriptors that an attribute refers to. */
  references: Set<number>;
  text: Buffer;
}

/** cudnnBackendDescriptorType_t, cudnnBackendAttributeName_t and cudnnBackendAttributeType_t. */
const PLAN = 5;
const TENSOR = 17;
const ATTRIBUTE = {
  results: 202,
  heuristicsGraph: 201,
  planConfig: 401,
  workspace: 402,
  planJson: 405,
  operations: 801,
  packIds: 1000,
  packPointers: 1001,
  packWorkspace: 1003,
  tensorType: 901,
  dimensions: 902,
  strides: 903,
  id: 906,
  virtual: 907,
  byValue: 908,
} as const;
const CHAR = 24;
const REFERENCE = 15;
const INT64 = 3;
const BYTES_PER_CUDNN_TYPE: Record<number, number> = { 0: 4, 4: 4, 9: 2, 11: 1 };
/** The ids of attention-graph.ts for dq, and for its sum in the caller's memory. */
const QUERY_GRADIENT = 7;
const QUERY_GRADIENT_SUM = 11;

/** What a plan needs to know of its graph; it is a plan's JSON. */
interface Plan {
  workspace: number;
  /** Bytes of each tensor that is passed with an execution, by id; 0 for one by value. */
  bytes: Record<number, number>;
}

/** cuDNN 9.19: every graph has one engine. A deterministic backward pass keeps its scores [B, H, n, n] in bf16. */
export function cudnnFunctions(device: FakeDevice, stream: FakeStream): NativeFunctions {
  const descriptors = new Map<number, Descriptor>();
  const of = (id: number) => descriptors.get(Number(id)) as Descriptor;
  const value = (descriptor: Descriptor, attribute: number) => descriptor.attributes.get(attribute) ?? [];
  const one = (descriptor: Descriptor, attribute: number) => value(descriptor, attribute)[0] ?? 0;

  /** All descriptors that a descriptor refers to, itself included. */
  const within = (id: number, found = new Set<number>()): Set<number> => {
    if (found.has(id) || !descriptors.has(id)) return found;
    found.add(id);
    for (const each of of(id).references) within(each, found);
    return found;
  };
  const planOf = (graph: number): Plan => {
    const tensors = [...within(graph)].map(of).filter(({ type }) => type === TENSOR);
    const bytes: Plan['bytes'] = {};
    for (const tensor of tensors) {
      if (one(tensor, ATTRIBUTE.virtual) === 1) continue;
      const [dimensions, strides] = [value(tensor, ATTRIBUTE.dimensions), value(tensor, ATTRIBUTE.strides)];
      const last = dimensions.reduce((sum, side, i) => sum + (side - 1) * (strides[i] as number), 1);
      const size = BYTES_PER_CUDNN_TYPE[one(tensor, ATTRIBUTE.tensorType)] as number;
      bytes[one(tensor, ATTRIBUTE.id)] = one(tensor, ATTRIBUTE.byValue) === 1 ? 0 : last * size;
    }
    const isDeterministic = bytes[QUERY_GRADIENT] !== undefined && bytes[QUERY_GRADIENT_SUM] === undefined;
    const squares = tensors
      .map((tensor) => value(tensor, ATTRIBUTE.dimensions))
      .filter(([, , rows, columns]) => rows === columns && (rows as number) > 1)
      .map((sides) => sides.reduce((product, side) => product * side, 1));
    return { workspace: isDeterministic ? 2 * Math.max(...squares) : 0, bytes };
  };
  const finalize = (id: number): void => {
    const descriptor = of(id);
    if (descriptor.type !== PLAN || descriptor.text.length > 0) return;
    const [config] = value(descriptor, ATTRIBUTE.planConfig);
    const [graph] = value(of(config as number), ATTRIBUTE.heuristicsGraph);
    descriptor.text = Buffer.from(JSON.stringify(planOf(graph as number)));
  };
  const planOfDescriptor = (id: number) => JSON.parse(of(id).text.toString()) as Plan;
  return {
    cudnnGetVersion: () => 91_900,
    cudnnGetLastErrorString: () => undefined,
    cudnnCreate: (out: number[]) => {
      out[0] = device.handle();
      return 0;
    },
    cudnnSetStream: () => 0,
    cudnnBackendCreateDescriptor: (type: number, out: number[]) => {
      const id = device.handle();
      descriptors.set(id, { type, attributes: new Map(), references: new Set(), text: Buffer.alloc(0) });
      out[0] = id;
      return 0;
    },
    cudnnBackendDestroyDescriptor: (id: number) => {
      descriptors.delete(Number(id));
      return 0;
    },
    cudnnBackendSetAttribute: (
      id: number,
      attribute: number,
      type: number,
      count: number,
      bytes: Uint8Array,
    ) => {
      const descriptor = of(id);
      if (type === CHAR) {
        descriptor.text = Buffer.from(bytes);
        return 0;
      }
      const values = numbers(bytes, Number(count));
      descriptor.attributes.set(attribute, values);
      if (type === REFERENCE) for (const each of values) descriptor.references.add(each);
      return 0;
    },
    cudnnBackendGetAttribute: (
      id: number,
      attribute: number,
      type: number,
      _requested: number,
      count: number[],
      out: BigInt64Array | Uint8Array | null,
    ) => {
      count[0] = 1;
      if (attribute === ATTRIBUTE.workspace && type === INT64) {
        (out as BigInt64Array)[0] = BigInt(planOfDescriptor(id).workspace);
      } else if (attribute === ATTRIBUTE.planJson) {
        count[0] = of(id).text.length;
        out?.set(of(id).text as never);
      } else if (attribute === ATTRIBUTE.results) {
        // The one engine configuration of a graph refers to it, so that its plan finds it.
        if (out !== null) {
          const graph = value(of(id), ATTRIBUTE.heuristicsGraph);
          of(Number(out[0])).attributes.set(ATTRIBUTE.heuristicsGraph, graph);
        }
      } else {
        throw new Error(`the fake driver has no attribute ${attribute} of cuDNN`);
      }
      return 0;
    },
    cudnnBackendFinalize: (id: number) => {
      finalize(Number(id));
      return 0;
    },
    cudnnBackendExecute: (_handle: number, plan: number, pack: number) => {
      const { workspace, bytes } = planOfDescriptor(plan);
      const [ids, pointers] = [value(of(pack), ATTRIBUTE.packIds), value(of(pack), ATTRIBUTE.packPointers)];
      const ranges = ids.map((id, i) => ({ address: pointers[i] as number, bytes: bytes[id] ?? 0 }));
      const scratch = { address: one(of(pack), ATTRIBUTE.packWorkspace), bytes: workspace };
      stream.run([...ranges, scratch], 'attention');
      return 0;
    },
  };
}

/** Values of an attribute: their size follows from their number. */
function numbers(bytes: Uint8Array, count: number): number[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const size = count === 0 ? 0 : bytes.byteLength / count;
  return Array.from({ length: count }, (_, i) => {
    if (size === 8) return Number(view.getBigInt64(8 * i, true));
    return size === 4 ? view.getInt32(4 * i, true) : view.getUint8(i);
  });
}
