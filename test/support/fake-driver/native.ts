/** What the fakes of NVIDIA's libraries share: the form of a library's functions, and the process's own memory. */
import type koffi from 'koffi';

/** The functions of a library by their C names; arguments as koffi passes them. */
export type NativeFunctions = Record<string, (...args: never[]) => number | undefined>;

/** Memory of this process, by address. */
export class HostMemory {
  constructor(private readonly real: Pick<typeof koffi, 'alloc' | 'view'>) {}

  allocate(bytes: number): number {
    const address = this.real.alloc('uint8_t', Math.max(1, bytes)) as bigint;
    this.bytes(Number(address), bytes).fill(0);
    return Number(address);
  }

  bytes(address: number, bytes: number): Uint8Array {
    return new Uint8Array(this.real.view(BigInt(address), bytes));
  }

  /**
   * The arguments of a launch by CU_LAUNCH_PARAM_BUFFER_POINTER and CU_LAUNCH_PARAM_BUFFER_SIZE, as words of eight bytes. It
   * clears them, so that the padding in the arguments of the next launch has no part of an old address.
   */
  launchArguments(extra: number): number[] {
    const list = new BigUint64Array(this.real.view(BigInt(extra), 40));
    const [, buffer, , size] = list as unknown as bigint[];
    const [bytes] = new BigUint64Array(this.real.view(size as bigint, 8)) as unknown as [bigint];
    const words = new BigUint64Array(this.real.view(buffer as bigint, 8 * Math.floor(Number(bytes) / 8)));
    const values = Array.from(words, Number);
    words.fill(0n);
    return values;
  }
}
