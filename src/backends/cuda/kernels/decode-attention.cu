// The attention of a new token to the cached tokens of its sequence, itself included: out = softmax(q·kᵀ / sqrt(K))·v. Included
// by decode.cu. cache [S, 2, H, slots, K]: the keys of a head are contiguous, and so are its values. The lanes that share a key
// compute an online softmax (Dao et al. 2022), which is merged over the warp and over the warps of a head. If there are more
// blocks than heads, several blocks take a part of a head's keys each, and the first merges their results (Dao et al. 2023,
// flash-decoding).

#define LOG2_E 1.4426950408889634f
#if ACTIVATIONS_BF16
#define KEYS_AHEAD 6 // keys that a lane loads together
#else
#define KEYS_AHEAD 2
#endif
#define KEYS_AT_END 2 // the same for the last keys

// The softmax over some keys: its largest exponent (of 2), the sum of 2^(score - top), and 8 columns of values under it.
struct Softmax {
  float top, total, values[8];
};

// 2^(from - to); 1 if both are minus infinity, before the first key.
__device__ inline float rescale(float from, float to) { return from == to ? 1.0f : exp2f(from - to); }

// Merges the softmax of the lane `offset` away into this lane's.
__device__ inline void merge(Softmax &s, int offset) {
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

// Cached keys and values are read once.
__device__ inline Eight readOnce(const activation *from) {
  Eight eight;
#pragma unroll
  for (int i = 0; i < (int)(sizeof(Eight) / sizeof(uint4)); i++) ((uint4 *)&eight)[i] = loadOnce((const uint4 *)from + i);
  return eight;
}

// q [m, H, K] → out [m, H, K]; sequence rows[i] is that of row i and has lengths[sequence] + 1 tokens in its cache. K is a
// multiple of 8.
struct Attention {
  const activation *q, *cache;
  const int *rows, *lengths;
  activation *out;
  int m, heads, size, slots;
};

// Maximum number of parts of a head's keys: blocks of the grid for each head of a row, at least 1.
__device__ inline int maxParts(int m, int heads) { return max(1, (int)gridDim.x / (m * heads)); }

// One part of the keys of a head of a row: keys [first, last); parts is 0 if the part does not exist.
struct HeadPart {
  int item, part, parts, first, last;
  const activation *keys, *values;
};
// Few enough parts that each has a load for every lane, by the row's own length.
__device__ inline HeadPart headPartOf(const Attention &p, int unit, int most, int keysOfBlock) {
  HeadPart own = {quotient(unit, 1.0f / most)};
  if (own.item >= p.m * p.heads) return own;
  int row = quotient(own.item, 1.0f / p.heads), head = own.item - row * p.heads, sequence = p.rows[row];
  int count = p.lengths[sequence] + 1, parts = most == 1 ? 1 : min(most, (count + keysOfBlock - 1) / keysOfBlock);
  own.part = unit - own.item * most;
  if (own.part >= parts) return own;
  own.parts = parts;
  own.first = parts == 1 ? 0 : count * own.part / parts;
  own.last = parts == 1 ? count : count * (own.part + 1) / parts;
  own.keys = p.cache + ((long long)(sequence * 2) * p.heads + head) * p.slots * p.size;
  own.values = own.keys + (long long)p.heads * p.slots * p.size;
  return own;
}

// Adds KEYS keys of a lane to its softmax, from `first` on, `step` apart. Beyond the last key it loads the last key again with
// weight 0: loads without branches are all in flight at once.
template <int KEYS, bool ALL_INSIDE>
__device__ inline void addKeys(Softmax &s, const float *query, const HeadPart &own, int first, int step, int size,
                              int lanes, int column) {
  Eight key[KEYS], value[KEYS];
  float score[KEYS], top = s.top;
#pragma unroll
  for (int u = 0; u < KEYS; u++) {
    int t = first + u * step, at = (ALL_INSIDE ? t : min(t, own.last - 1)) * size + column;
    key[u] = readOnce(own.keys + at);
    value[u] = readOnce(own.values + at);
  }
#pragma unroll
  for (int u = 0; u < KEYS; u++) {
    float k[8], sum = 0.0f;
    unpack(key[u], k);
#pragma unroll
    for (int e = 0; e < 8; e++) sum += query[e] * k[e];
    for (int offset = 1; offset < lanes; offset *= 2) sum += __shfl_xor_sync(FULL, sum, offset);
    score[u] = ALL_INSIDE || first + u * step < own.last ? sum : NEGATIVE_INFINITY;
    top = fmaxf(top, score[u]);
  }
  float before = rescale(s.top, top);
  s.top = top;
  s.total *= before;
#pragma unroll
  for (int e = 0; e < 8; e++) s.values[e] *= before;
#pragma unroll
  for (int u = 0; u < KEYS; u++) {
    float weight = !ALL_INSIDE && score[u] == NEGATIVE_INFINITY ? 0.0f : exp2f(score[u] - top), v[8];
    unpack(value[u], v);
    s.total += weight;
#pragma unroll
    for (int e = 0; e < 8; e++) s.values[e] += weight * v[e];
  }
}

// `scratch` is shared memory for DECODE_WARPS · (K + 2) floats. For heads with several parts: `partials` is memory for K + 2
// floats of each block, and counters[item] is 0 at first. Ends with a barrier of the block.
__device__ __noinline__ void attendCached(const Attention p, float *scratch, float *partials, unsigned *counters) {
  int warp = threadIdx.x / WARP, lane = threadIdx.x % WARP, items = p.m * p.heads, size = p.size;
  int lanes = 1; // that share a key: 8 columns each
  while (lanes * 8 < size) lanes *= 2;
  int column = lane % lanes * 8, keysOfWarp = WARP / lanes;
  bool inside = column < size;
  int warps = DECODE_WARPS; // that share a head: fewer if there are many heads
  while (warps > 1 && warps * items > DECODE_WARPS * gridDim.x) warps /= 2;
  int groups = DECODE_WARPS / warps, group = warp / warps, step = warps * keysOfWarp;
  int most = maxParts(p.m, p.heads); // more than 1 only if a block has at most one item
  float scale = LOG2_E / sqrtf((float)size);
  for (int base = 0; base < items * most; base += groups * gridDim.x) {
    HeadPart own = headPartOf(p, base + group * gridDim.x + blockIdx.x, most, step);
    float *ownScratch = scratch + warp * (size + 2);
    if (own.parts > 0) {
      float query[8];
      Eight stored = NO_EIGHT; // stays 0 beyond a head's columns
      if (inside) stored = readEight(p.q + (long long)own.item * size + column);
      unpack(stored, query);
#pragma unroll
      for (int e = 0; e < 8; e++) query[e] *= scale;
      Softmax s = {NEGATIVE_INFINITY, 0.0f, {0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f}};
      // All lanes of a warp run the same iterations: the shuffles need them.
      int ofWarp = own.first + warp % warps * keysOfWarp, ofLane = lane / lanes, from = inside ? column : 0;
      for (; ofWarp + (KEYS_AHEAD - 1) * step + keysOfWarp <= own.last; ofWarp += KEYS_AHEAD * step)
        addKeys<KEYS_AHEAD, true>(s, query, own, ofWarp + ofLane, step, size, lanes, from);
      for (; ofWarp < own.last; ofWarp += KEYS_AT_END * step)
        addKeys<KEYS_AT_END, false>(s, query, own, ofWarp + ofLane, step, size, lanes, from);
      for (int offset = lanes; offset < WARP; offset *= 2) merge(s, offset);
      if (lane < lanes && inside) {
#pragma unroll
        for (int e = 0; e < 8; e++) ownScratch[2 + column + e] = s.values[e];
      }
      if (lane == 0) {
        ownScratch[0] = s.top;
        ownScratch[1] = s.total;
      }
    }
    __syncthreads();
    float *joined = partials + (long long)blockIdx.x * (size + 2);
    if (own.parts > 0) {
      const float *each = scratch + group * warps * (size + 2);
      float top = NEGATIVE_INFINITY, total = 0.0f;
#pragma unroll 4
      for (int w = 0; w < warps; w++) top = fmaxf(top, each[w * (size + 2)]);
#pragma unroll 4
      for (int w = 0; w < warps; w++) total += rescale(each[w * (size + 2)], top) * each[w * (size + 2) + 1];
      for (int c = threadIdx.x & (warps * WARP - 1); c < size; c += warps * WARP) {
        float sum = 0.0f;
#pragma unroll 4
        for (int w = 0; w < warps; w++) sum += rescale(each[w * (size + 2)], top) * each[w * (size + 2) + 2 + c];
        if (own.parts == 1) assign(p.out[(long long)own.item * size + c], sum / total);
        else joined[2 + c] = sum;
      }
      if (own.parts > 1 && threadIdx.x == 0) {
        joined[0] = top;
        joined[1] = total;
      }
    }
    if (own.parts > 1) { // the block's only item: its first part waits for the others, of the blocks that follow
      meetAt(counters + own.item, own.part == 0 ? own.parts : 0);
      for (int c = threadIdx.x; own.part == 0 && c < size; c += DECODE_THREADS) {
        float top = NEGATIVE_INFINITY, total = 0.0f, sum = 0.0f;
#pragma unroll 8
        for (int part = 0; part < own.parts; part++) {
          const float *from = joined + part * (size + 2);
          float higher = fmaxf(top, from[0]), before = rescale(top, higher), now = rescale(from[0], higher);
          total = total * before + from[1] * now;
          sum = sum * before + from[2 + c] * now;
          top = higher;
        }
        assign(p.out[(long long)own.item * size + c], sum / total);
      }
    }
    __syncthreads();
  }
}
