// Definitions that all kernels share, prepended to every file. They need no headers: NVRTC may find none on a user's machine.
// An activation is float, or bf16 if ACTIVATIONS_BF16 is 1; arithmetic is in float either way.
// Notation in the files' heads: B sequences of n or T tokens, D = H·K the width, H heads of size K, V the vocabulary.

typedef unsigned short bf16;
#if ACTIVATIONS_BF16
typedef bf16 activation;
#else
typedef float activation;
#endif

#define WARP 32
#define FULL 0xffffffffu
#define NEGATIVE_INFINITY __int_as_float(0xff800000)

__device__ inline float toFloat(float x) { return x; }
__device__ inline float toFloat(bf16 x) { return __uint_as_float((unsigned)x << 16); }

// Two floats to two bf16 in one register, a in the lower half, rounded to nearest even.
__device__ inline unsigned packBf16(float a, float b) {
  unsigned packed;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(packed) : "f"(b), "f"(a));
  return packed;
}
__device__ inline void assign(float &to, float x) { to = x; }
__device__ inline void assign(bf16 &to, float x) { to = (bf16)(packBf16(x, 0.0f) & 0xffffu); }

// x rounded to the storage of activations.
__device__ inline float rounded(float x) {
  activation stored;
  assign(stored, x);
  return toFloat(stored);
}

// Loads and stores of V consecutive elements, V = 1, 2 or 8, aligned to V elements.
template <int V, typename T> __device__ inline void load(const T *from, float *x) {
#pragma unroll
  for (int i = 0; i < V; i++) x[i] = toFloat(from[i]);
}
template <> __device__ inline void load<8, float>(const float *from, float *x) {
  float4 a = ((const float4 *)from)[0], b = ((const float4 *)from)[1];
  x[0] = a.x; x[1] = a.y; x[2] = a.z; x[3] = a.w;
  x[4] = b.x; x[5] = b.y; x[6] = b.z; x[7] = b.w;
}
template <> __device__ inline void load<8, bf16>(const bf16 *from, float *x) {
  uint4 a = *(const uint4 *)from;
  unsigned words[4] = {a.x, a.y, a.z, a.w};
#pragma unroll
  for (int i = 0; i < 4; i++) {
    x[2 * i] = __uint_as_float(words[i] << 16);
    x[2 * i + 1] = __uint_as_float(words[i] & 0xffff0000u);
  }
}
template <> __device__ inline void load<2, float>(const float *from, float *x) {
  float2 a = *(const float2 *)from;
  x[0] = a.x;
  x[1] = a.y;
}
template <> __device__ inline void load<2, bf16>(const bf16 *from, float *x) {
  unsigned a = *(const unsigned *)from;
  x[0] = __uint_as_float(a << 16);
  x[1] = __uint_as_float(a & 0xffff0000u);
}
template <int V, typename T> __device__ inline void store(T *to, const float *x) {
#pragma unroll
  for (int i = 0; i < V; i++) assign(to[i], x[i]);
}
template <> __device__ inline void store<8, float>(float *to, const float *x) {
  ((float4 *)to)[0] = make_float4(x[0], x[1], x[2], x[3]);
  ((float4 *)to)[1] = make_float4(x[4], x[5], x[6], x[7]);
}
template <> __device__ inline void store<2, float>(float *to, const float *x) { *(float2 *)to = make_float2(x[0], x[1]); }
template <> __device__ inline void store<2, bf16>(bf16 *to, const float *x) { *(unsigned *)to = packBf16(x[0], x[1]); }
template <> __device__ inline void store<8, bf16>(bf16 *to, const float *x) {
  *(uint4 *)to = make_uint4(packBf16(x[0], x[1]), packBf16(x[2], x[3]), packBf16(x[4], x[5]), packBf16(x[6], x[7]));
}

// V consecutive activations as they are stored, V = 1, 2 or 8: a load whose conversion is postponed to its use.
template <int V> struct Packed {
  activation each[V];
};
#if ACTIVATIONS_BF16
template <> struct Packed<2> {
  unsigned word;
};
template <> struct Packed<8> {
  uint4 words;
};
#else
template <> struct Packed<2> {
  float2 pair;
};
template <> struct Packed<8> {
  float4 low, high;
};
#endif
template <int V> __device__ inline Packed<V> fetch(const activation *from) { return *(const Packed<V> *)from; }
template <int V> __device__ inline void unpack(const Packed<V> &packed, float *x) {
  load<V>((const activation *)&packed, x);
}

__device__ inline float warpSum(float x) {
#pragma unroll
  for (int offset = WARP / 2; offset > 0; offset /= 2) x += __shfl_xor_sync(FULL, x, offset);
  return x;
}
__device__ inline float warpMax(float x) {
#pragma unroll
  for (int offset = WARP / 2; offset > 0; offset /= 2) x = fmaxf(x, __shfl_xor_sync(FULL, x, offset));
  return x;
}

// The sum over a block of at most 1024 threads, returned to every thread. Always in the same order.
__device__ inline float blockSum(float x) {
  __shared__ float sums[WARP];
  x = warpSum(x);
  __syncthreads(); // an earlier call's sums may still be read
  if (threadIdx.x % WARP == 0) sums[threadIdx.x / WARP] = x;
  __syncthreads();
  int warps = (blockDim.x + WARP - 1) / WARP;
  return warpSum(threadIdx.x % WARP < warps ? sums[threadIdx.x % WARP] : 0.0f);
}

// out[i] = Σ over a block's warps of `own`, whose entry [j][e] is column (j·32 + lane)·V + e of `width`. One warp after the
// other, so always in the same order. columns: shared memory for `width` numbers.
template <int V, int J>
__device__ inline void sumOfWarps(const float (&own)[J][V], float *columns, float *out, int width) {
  int warp = threadIdx.x / WARP, lane = threadIdx.x % WARP, warps = blockDim.x / WARP;
  for (int source = 0; source < warps; source++) {
    if (source == warp) {
#pragma unroll
      for (int j = 0; j < J; j++) {
        int i = (j * WARP + lane) * V;
        if (i >= width) continue;
#pragma unroll
        for (int e = 0; e < V; e++) columns[i + e] = (source == 0 ? 0.0f : columns[i + e]) + own[j][e];
      }
    }
    __syncthreads();
  }
  for (int i = threadIdx.x; i < width; i += blockDim.x) out[i] = columns[i];
}

// 1 / (1 + exp(-x)), the quotient to within two units in the last place: without the branch of an exact division, which
// would keep the elements of a thread from overlapping.
__device__ inline float sigmoid(float x) { return __fdividef(1.0f, 1.0f + expf(-x)); }

__device__ const float GELU_SCALE = 1.5957691216057308f; // 2·sqrt(2/π)
__device__ const float GELU_CUBIC = 0.044715f;

__device__ inline float geluOf(float x) {
  return x * sigmoid(x * (GELU_SCALE + GELU_SCALE * GELU_CUBIC * x * x));
}
__device__ inline float geluSlope(float x) {
  float s = sigmoid(x * (GELU_SCALE + GELU_SCALE * GELU_CUBIC * x * x));
  return s + x * (GELU_SCALE + 3 * GELU_SCALE * GELU_CUBIC * x * x) * s * (1.0f - s);
}

// Defines a kernel twice: for eight elements at a time, if rows are a multiple of eight wide, and for any width.
#define FOR_EACH_WIDTH(define) define(1) define(8)
