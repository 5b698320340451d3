// A new token's attention to what its sequence has cached in a block, itself included. Keys and values lie one after another
// for each head: cache [S, 2, H, room, K]. Softmax is taken along the way (Dao et al. 2022) by every few lanes that share a
// key, then joined within the warp and among the warps that share a head.

#define LOG2_E 1.4426950408889634f
#if ACTIVATIONS_BF16
#define KEYS_AHEAD 6 // keys a lane loads together
#else
#define KEYS_AHEAD 2
#endif
#define LARGEST_DECODED_HEAD 256

// The softmax over some keys: its largest exponent (of 2), the sum of 2^(score - top), and 8 columns of values under it.
struct Softmax {
  float top, total, values[8];
};

// 2^(from - to), also where both are none yet.
__device__ inline float rescale(float from, float to) { return from == to ? 1.0f : exp2f(from - to); }

__device__ inline void join(Softmax &s, int offset) {
  float top = fmaxf(s.top, __shfl_xor_sync(FULL, s.top, offset)), own = rescale(s.top, top);
  s.total *= own;
  s.total += __shfl_xor_sync(FULL, s.total, offset);
#pragma unroll
  for (int e = 0; e < 8; e++) {
    s.values[e] *= own;
    s.values[e] += __shfl_xor_sync(FULL, s.values[e], offset);
  }
  s.top = top;
}

// q [m, H, K] → out [m, H, K]; sequence rows[i] is that of row i and has lengths[sequence] + 1 tokens in its cache.
// K is a multiple of 8. `scratch` is shared memory for DECODE_WARPS · (K + 2) floats. Ends with the block in step.
__device__ __noinline__ void attendCached(const activation *q, const activation *cache, const int *rows, const int *lengths,
                             activation *out, int m, int heads, int size, int room, float *scratch) {
  int warp = threadIdx.x / WARP, lane = threadIdx.x % WARP, items = m * heads;
  int lanes = 1; // that share a key: 8 columns each
  while (lanes * 8 < size) lanes *= 2;
  int column = lane % lanes * 8, keysOfWarp = WARP / lanes;
  int warps = DECODE_WARPS; // that share a head: fewer where there are many
  while (warps > 1 && warps * items > DECODE_WARPS * gridDim.x) warps /= 2;
  int groups = DECODE_WARPS / warps, group = warp / warps, part = warp % warps, step = warps * keysOfWarp;
  float scale = LOG2_E / sqrtf((float)size);
  for (int base = 0; base < items; base += groups * gridDim.x) {
    int item = base + group * gridDim.x + blockIdx.x;
    float *own = scratch + warp * (size + 2);
    if (item < items) {
      int row = item / heads, head = item % heads, sequence = rows[row], count = lengths[sequence] + 1;
      const activation *keys = cache + ((long long)(sequence * 2) * heads + head) * room * size;
      const activation *values = keys + (long long)heads * room * size;
      bool inside = column < size;
      float query[8];
      Eight stored = NO_EIGHT;
      if (inside) stored = readEight(q + (long long)item * size + column);
      unpack(stored, query);
#pragma unroll
      for (int e = 0; e < 8; e++) query[e] *= scale;
      Softmax s = {NEGATIVE_INFINITY, 0.0f, {0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f}};
      // All lanes of a warp go round equally often: the shuffles need them.
      for (int first = part * keysOfWarp; first < count; first += KEYS_AHEAD * step) {
        Eight key[KEYS_AHEAD], value[KEYS_AHEAD];
        float score[KEYS_AHEAD], top = s.top;
#pragma unroll
        for (int u = 0; u < KEYS_AHEAD; u++) {
          int t = first + u * step + lane / lanes;
          key[u] = NO_EIGHT;
          value[u] = NO_EIGHT;
          if (inside && t < count) {
            key[u] = readEight(keys + (long long)t * size + column);
            value[u] = readEight(values + (long long)t * size + column);
          }
        }
#pragma unroll
        for (int u = 0; u < KEYS_AHEAD; u++) {
          float k[8], sum = 0.0f;
          unpack(key[u], k);
#pragma unroll
          for (int e = 0; e < 8; e++) sum += query[e] * k[e];
          for (int offset = 1; offset < lanes; offset *= 2) sum += __shfl_xor_sync(FULL, sum, offset);
          score[u] = first + u * step + lane / lanes < count ? sum : NEGATIVE_INFINITY;
          top = fmaxf(top, score[u]);
        }
        float before = rescale(s.top, top);
        s.top = top;
        s.total *= before;
#pragma unroll
        for (int e = 0; e < 8; e++) s.values[e] *= before;
#pragma unroll
        for (int u = 0; u < KEYS_AHEAD; u++) {
          float weight = score[u] == NEGATIVE_INFINITY ? 0.0f : exp2f(score[u] - top), v[8];
          unpack(value[u], v);
          s.total += weight;
#pragma unroll
          for (int e = 0; e < 8; e++) s.values[e] += weight * v[e];
        }
      }
      for (int offset = lanes; offset < WARP; offset *= 2) join(s, offset);
      if (lane < lanes && inside) {
#pragma unroll
        for (int e = 0; e < 8; e++) own[2 + column + e] = s.values[e];
      }
      if (lane == 0) {
        own[0] = s.top;
        own[1] = s.total;
      }
    }
    __syncthreads();
    if (item < items) {
      const float *parts = scratch + group * warps * (size + 2);
      float top = NEGATIVE_INFINITY, total = 0.0f;
#pragma unroll 4
      for (int w = 0; w < warps; w++) top = fmaxf(top, parts[w * (size + 2)]);
#pragma unroll 4
      for (int w = 0; w < warps; w++) total += rescale(parts[w * (size + 2)], top) * parts[w * (size + 2) + 1];
      for (int c = threadIdx.x % (warps * WARP); c < size; c += warps * WARP) {
        float sum = 0.0f;
#pragma unroll 4
        for (int w = 0; w < warps; w++) sum += rescale(parts[w * (size + 2)], top) * parts[w * (size + 2) + 2 + c];
        assign(out[(long long)item * size + c], sum / total);
      }
    }
    __syncthreads();
  }
}
