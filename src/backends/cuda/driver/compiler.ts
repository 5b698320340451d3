/** Compiles kernels with NVRTC and caches the machine code on disk by source, architecture and compiler version. */
import { createHash } from 'node:crypto';
import { koffi } from '../../../ffi.js';
import { cacheFile, kernelCacheFolder, readCache, writeCache } from './disk-cache.js';
import { nvrtcBuiltins } from './libraries.js';

function bind(path: string) {
  const builtins = nvrtcBuiltins(path);
  if (builtins !== null) koffi.load(builtins, { global: true });
  const lib = koffi.load(path, { global: true });
  const f = (definition: string) => lib.func(`int ${definition}`) as (...args: unknown[]) => number;
  return {
    version: f('nvrtcVersion(_Out_ int *major, _Out_ int *minor)'),
    architectureCount: f('nvrtcGetNumSupportedArchs(_Out_ int *count)'),
    architectures: f('nvrtcGetSupportedArchs(void *archs)'),
    create: f(
      'nvrtcCreateProgram(_Out_ uint64_t *program, str source, str name, int headers, void *sources, void *names)',
    ),
    compile: f('nvrtcCompileProgram(uint64_t program, int count, str *options)'),
    logSize: f('nvrtcGetProgramLogSize(uint64_t program, _Out_ size_t *size)'),
    log: f('nvrtcGetProgramLog(uint64_t program, void *log)'),
    cubinSize: f('nvrtcGetCUBINSize(uint64_t program, _Out_ size_t *size)'),
    cubin: f('nvrtcGetCUBIN(uint64_t program, void *cubin)'),
    destroy: f('nvrtcDestroyProgram(uint64_t *program)'),
  };
}

export class Compiler {
  /** NVRTC's version, such as 13.0; part of the cache's key and of the manifest. */
  readonly version: string;
  private readonly nvrtc: ReturnType<typeof bind>;

  constructor(path: string) {
    this.nvrtc = bind(path);
    const [major, minor] = [[0], [0]];
    this.check(this.nvrtc.version(major, minor), 'nvrtcVersion');
    this.version = `${major[0]}.${minor[0]}`;
  }

  /** Compute capabilities that this NVRTC supports, as 80 or 90. */
  architectures(): number[] {
    const count = [0];
    this.check(this.nvrtc.architectureCount(count), 'nvrtcGetNumSupportedArchs');
    const archs = new Int32Array(count[0] as number);
    this.check(this.nvrtc.architectures(archs), 'nvrtcGetSupportedArchs');
    return [...archs];
  }

  /** Compiles a source to machine code for one architecture; throws an error with the compiler's log. */
  compile(name: string, source: string, architecture: number, definitions: string[] = []): Buffer {
    const program = [0];
    this.check(this.nvrtc.create(program, source, name, 0, null, null), 'nvrtcCreateProgram');
    const handle = program[0] as number;
    try {
      const options = [
        `--gpu-architecture=sm_${architecture}`,
        '--std=c++17',
        '-default-device',
        ...definitions,
      ];
      const code = this.nvrtc.compile(handle, options.length, options);
      if (code !== 0)
        throw new Error(`NVRTC ${this.version} failed to compile ${name}:\n${this.logOf(handle)}`);
      const size = [0];
      this.check(this.nvrtc.cubinSize(handle, size), 'nvrtcGetCUBINSize');
      const cubin = Buffer.alloc(Number(size[0]));
      this.check(this.nvrtc.cubin(handle, cubin), 'nvrtcGetCUBIN');
      return cubin;
    } finally {
      this.nvrtc.destroy([handle]);
    }
  }

  /** `compile` with a cache on disk; a damaged cache file is replaced. */
  cached(
    name: string,
    source: string,
    architecture: number,
    definitions: string[] = [],
    folder = kernelCacheFolder(),
  ): Buffer {
    const key = createHash('sha256')
      .update([this.version, architecture, ...definitions, source].join('\0'))
      .digest('hex');
    const path = cacheFile(folder, `${name.replace(/\W+/g, '-')}-${key.slice(0, 32)}.cubin`);
    const known = readCache(path);
    if (known !== null) return known;
    const cubin = this.compile(name, source, architecture, definitions);
    writeCache(path, cubin);
    return cubin;
  }

  private logOf(program: number): string {
    const size = [0];
    this.check(this.nvrtc.logSize(program, size), 'nvrtcGetProgramLogSize');
    const log = Buffer.alloc(Number(size[0]));
    this.check(this.nvrtc.log(program, log), 'nvrtcGetProgramLog');
    return log.toString('utf8').replace(/\0+$/, '').trim();
  }

  private check(code: number, what: string): void {
    if (code !== 0) throw new Error(`${what}: NVRTC error ${code}`);
  }
}
