// Routed blocks: router weights r = w·x, the k selected tokens of a sequence, their rows gathered and scattered back scaled by
// the gate, the gradients of these, and the draws of the random router. Router weights are float32 throughout.
// x [B, T, width]; r [B, T]; w [width]; indices [B, k] are positions, and T for padding, which reads zeros and writes nothing.
// `slots` is B·k, the number of selected tokens with padding; `tokens` is B·T. `length` is T.

#include "gate.cu"

// r[token] = x[token]·w; with a branch, total = x + branch as stored and r = total·w. Reads x, branch or null, and w; writes r
// and total. One warp per token; grid: tokens / warps of a block.
template <int V>
__device__ void dotRow(const activation *x, const activation *branch, const float *w, activation *total, float *r,
                       int tokens, int width) {
  int token = blockIdx.x * (blockDim.x / WARP) + threadIdx.x / WARP, lane = threadIdx.x % WARP;
  if (token >= tokens) return;
  long long start = (long long)token * width;
  float sum = 0.0f;
  for (int i = lane * V; i < width; i += WARP * V) {
    float a[V], b[V];
    load<V>(x + start + i, a);
    if (branch != 0) {
      load<V>(branch + start + i, b);
#pragma unroll
      for (int j = 0; j < V; j++) a[j] = rounded(a[j] + b[j]);
      store<V>(total + start + i, a);
    }
    load<V>(w + i, b);
#pragma unroll
    for (int j = 0; j < V; j++) sum += a[j] * b[j];
  }
  sum = warpSum(sum);
  if (lane == 0) r[token] = sum;
}

// dx[token] = dr[token]·w, added to dx if accumulate is 1; partials[block] = Σ dr·x over the block's tokens, [width], for dw.
// Reads dr, x, w and dx; writes dx and partials. If accumulate is 1, a token with dr = 0 is skipped: most of them, if only the
// gate has a gradient. A persistent grid of any number of blocks; a warp reads dr of 32 tokens at once and processes their rows
// one after another, J groups of V columns of a lane; width is a multiple of V and at most J·V·32.
template <int V, int J>
__device__ void logitsGradRows(const float *dr, const activation *x, const float *w, activation *dx, float *partials,
                               int tokens, int width, int accumulate) {
  extern __shared__ float columns[];
  int warp = threadIdx.x / WARP, lane = threadIdx.x % WARP, warps = blockDim.x / WARP;
  float dweight[J][V];
#pragma unroll
  for (int j = 0; j < J; j++)
#pragma unroll
    for (int e = 0; e < V; e++) dweight[j][e] = 0.0f;
  for (int first = (blockIdx.x * warps + warp) * WARP; first < tokens; first += gridDim.x * warps * WARP) {
    float own = first + lane < tokens ? dr[first + lane] : 0.0f;
    unsigned left = __ballot_sync(FULL, first + lane < tokens && (!accumulate || own != 0.0f));
    for (; left != 0; left &= left - 1) {
      int next = __ffs(left) - 1;
      long long start = (long long)(first + next) * width;
      float d = __shfl_sync(FULL, own, next);
      Packed<V> xs[J], gradAccum[J];
#pragma unroll
      for (int j = 0; j < J; j++) {
        int i = (j * WARP + lane) * V;
        if (i >= width) continue;
        xs[j] = fetch<V>(x + start + i);
        if (accumulate) gradAccum[j] = fetch<V>(dx + start + i);
      }
#pragma unroll
      for (int j = 0; j < J; j++) {
        int i = (j * WARP + lane) * V;
        if (i >= width) continue;
        float a[V], b[V], before[V];
        unpack<V>(xs[j], a);
        load<V>(w + i, b);
        if (accumulate) unpack<V>(gradAccum[j], before);
#pragma unroll
        for (int e = 0; e < V; e++) {
          dweight[j][e] += d * a[e];
          b[e] = d * b[e] + (accumulate ? before[e] : 0.0f);
        }
        store<V>(dx + start + i, b);
      }
    }
  }
  sumOfWarps<V, J>(dweight, columns, partials + (long long)blockIdx.x * width, width);
}

// For selected tokens: dx[token] += drows[slot] + dr[token]·w; partials[block] = Σ dr·rows over the block's slots, [width], for
// dw. Padding is skipped. Reads dr, drows, rows [slots, width], indices, w and dx; writes dx and partials. A persistent grid as
// that of logitsGradRows. A warp loads a slot's rows while it computes the slot before it, as no token has two slots.
template <int V, int J>
__device__ void gatherGradRows(const float *dr, const activation *drows, const activation *rows, const int *indices,
                             const float *w, activation *dx, float *partials, int slots, int k, int length, int width) {
  extern __shared__ float columns[];
  int warp = threadIdx.x / WARP, lane = threadIdx.x % WARP, warps = blockDim.x / WARP, stride = gridDim.x * warps;
  float dweight[J][V];
#pragma unroll
  for (int j = 0; j < J; j++)
#pragma unroll
    for (int e = 0; e < V; e++) dweight[j][e] = 0.0f;
  for (int first = blockIdx.x * warps + warp; first < slots; first += WARP * stride) {
    // The token and dr of one slot for each lane.
    int own = first + lane * stride, ownToken = -1;
    if (own < slots && indices[own] < length) ownToken = own / k * length + indices[own];
    float ownDr = ownToken < 0 ? 0.0f : dr[ownToken];
    Packed<V> nextRows[J], nextGradient[J], nextGradAccum[J];
    auto prefetch = [&](int source) {
      int slot = first + source * stride, token = __shfl_sync(FULL, ownToken, source);
      if (token < 0) return; // padding, or beyond the last slot
#pragma unroll
      for (int j = 0; j < J; j++) {
        int i = (j * WARP + lane) * V;
        if (i >= width) continue;
        nextRows[j] = fetch<V>(rows + (long long)slot * width + i);
        nextGradient[j] = fetch<V>(drows + (long long)slot * width + i);
        nextGradAccum[j] = fetch<V>(dx + (long long)token * width + i);
      }
    };
    prefetch(0);
    for (int source = 0; source < WARP && first + source * stride < slots; source++) {
      int token = __shfl_sync(FULL, ownToken, source);
      float d = __shfl_sync(FULL, ownDr, source);
      Packed<V> row[J], gradient[J], gradAccum[J];
#pragma unroll
      for (int j = 0; j < J; j++) {
        row[j] = nextRows[j];
        gradient[j] = nextGradient[j];
        gradAccum[j] = nextGradAccum[j];
      }
      if (source + 1 < WARP) prefetch(source + 1);
      if (token < 0) continue;
#pragma unroll
      for (int j = 0; j < J; j++) {
        int i = (j * WARP + lane) * V;
        if (i >= width) continue;
        float a[V], g[V], b[V], before[V];
        unpack<V>(row[j], a);
        unpack<V>(gradient[j], g);
        unpack<V>(gradAccum[j], before);
        load<V>(w + i, b);
#pragma unroll
        for (int e = 0; e < V; e++) {
          dweight[j][e] += d * a[e];
          before[e] += g[e] + d * b[e];
        }
        store<V>(dx + (long long)token * width + i, before);
      }
    }
  }
  sumOfWarps<V, J>(dweight, columns, partials + (long long)blockIdx.x * width, width);
}

// As many blocks on a multiprocessor as norm.cu has.
#define ROUTING_GRAD(V, J, BLOCKS)                                                                                    \
  extern "C" __global__ void __launch_bounds__(256, BLOCKS)                                                           \
      routerLogitsGrad##V##x##J(const float *dr, const activation *x, const float *w, activation *dx, float *partials, \
                               int tokens, int width, int accumulate) {                                               \
    logitsGradRows<V, J>(dr, x, w, dx, partials, tokens, width, accumulate);                                          \
  }                                                                                                                   \
  extern "C" __global__ void __launch_bounds__(256, BLOCKS)                                                           \
      routedGatherGrad##V##x##J(const float *dr, const activation *drows, const activation *rows, const int *indices, \
                              const float *w, activation *dx, float *partials, int slots, int k, int length,          \
                              int width) {                                                                            \
    gatherGradRows<V, J>(dr, drows, rows, indices, w, dx, partials, slots, k, length, width);                         \
  }
ROUTING_GRAD(2, 1, 4) ROUTING_GRAD(2, 3, 4) ROUTING_GRAD(2, 5, 4) ROUTING_GRAD(2, 7, 4)
ROUTING_GRAD(8, 1, 4) ROUTING_GRAD(8, 2, 3) ROUTING_GRAD(8, 3, 2) ROUTING_GRAD(8, 4, 2) ROUTING_GRAD(8, 8, 1)

// Only dx, for any width. One warp per token; grid: tokens / warps of a block.
extern "C" __global__ void routerLogitsGradAnyWidth(const float *dr, const float *w, activation *dx, int tokens,
                                                   int width, int accumulate) {
  int token = blockIdx.x * (blockDim.x / WARP) + threadIdx.x / WARP, lane = threadIdx.x % WARP;
  if (token >= tokens) return;
  float d = dr[token];
  activation *row = dx + (long long)token * width;
  for (int i = lane; i < width; i += WARP) assign(row[i], d * w[i] + (accumulate ? toFloat(row[i]) : 0.0f));
}

// Only dx, for any width, and ofSlots[slot] = dr of its token, 0 for padding. One warp per slot; grid: slots / warps of a block.
extern "C" __global__ void routedGatherGradAnyWidth(const float *dr, const activation *drows, const int *indices,
                                                  const float *w, activation *dx, float *ofSlots, int slots, int k,
                                                  int length, int width) {
  int slot = blockIdx.x * (blockDim.x / WARP) + threadIdx.x / WARP, lane = threadIdx.x % WARP;
  if (slot >= slots) return;
  bool padding = indices[slot] >= length;
  long long token = (long long)(slot / k) * length + (padding ? 0 : indices[slot]);
  float d = padding ? 0.0f : dr[token];
  if (lane == 0) ofSlots[slot] = d;
  if (padding) return;
  const activation *from = drows + (long long)slot * width;
  activation *to = dx + token * width;
  for (int i = lane; i < width; i += WARP) assign(to[i], toFloat(to[i]) + toFloat(from[i]) + d * w[i]);
}

// rows[slot] = x[its token], 0 for padding. Reads x and indices. One warp per slot; grid: slots / warps of a block.
template <int V>
__device__ void gatherRow(const activation *x, const int *indices, activation *rows, int slots, int k, int length,
                          int width) {
  int slot = blockIdx.x * (blockDim.x / WARP) + threadIdx.x / WARP, lane = threadIdx.x % WARP;
  if (slot >= slots) return;
  int position = indices[slot];
  const activation *from = x + ((long long)(slot / k) * length + position) * width;
  activation *to = rows + (long long)slot * width;
  for (int i = lane * V; i < width; i += WARP * V) {
    float a[V];
#pragma unroll
    for (int j = 0; j < V; j++) a[j] = 0.0f;
    if (position < length) load<V>(from + i, a);
    store<V>(to + i, a);
  }
}

// y[the slot's token] += gate(r)·rows[slot], or rows[slot] if r is null. A token has at most one slot, so no two warps write
// the same row. `gate` is a code of gate.cu. Reads rows, indices, r and y; writes y. Grid as that of gatherRow.
template <int V>
__device__ void scatterRow(const activation *rows, const int *indices, const float *r, activation *y, int slots, int k,
                           int length, int width, int gate) {
  int slot = blockIdx.x * (blockDim.x / WARP) + threadIdx.x / WARP, lane = threadIdx.x % WARP;
  if (slot >= slots || indices[slot] >= length) return;
  long long token = (long long)(slot / k) * length + indices[slot];
  float scale = r != 0 ? gateValue(gate, r[token]) : 1.0f;
  for (int i = lane * V; i < width; i += WARP * V) {
    float a[V], b[V];
    load<V>(y + token * width + i, a);
    load<V>(rows + (long long)slot * width + i, b);
#pragma unroll
    for (int j = 0; j < V; j++) a[j] += scale * b[j];
    store<V>(y + token * width + i, a);
  }
}

// drows[slot] = gate(r)·dout[token], 0 for padding; dr[token] = gate'(r)·(dout[token]·rows[slot]). dr must be 0 before: other
// tokens are not written. Reads dout, rows, r and indices; writes drows and dr. Grid as that of gatherRow.
template <int V>
__device__ void scatterGradRow(const activation *dout, const activation *rows, const float *r, const int *indices,
                               activation *drows, float *dr, int slots, int k, int length, int width, int gate) {
  int slot = blockIdx.x * (blockDim.x / WARP) + threadIdx.x / WARP, lane = threadIdx.x % WARP;
  if (slot >= slots) return;
  int position = indices[slot];
  bool padding = position >= length;
  long long token = (long long)(slot / k) * length + (padding ? 0 : position);
  float weight = padding ? 0.0f : r[token], value = padding ? 0.0f : gateValue(gate, weight), dot = 0.0f;
  for (int i = lane * V; i < width; i += WARP * V) {
    float d[V], a[V];
    load<V>(dout + token * width + i, d);
    load<V>(rows + (long long)slot * width + i, a);
#pragma unroll
    for (int j = 0; j < V; j++) {
      dot += d[j] * a[j];
      d[j] = padding ? 0.0f : d[j] * value;
    }
    store<V>(drows + (long long)slot * width + i, d);
  }
  dot = warpSum(dot);
  if (lane == 0 && !padding) dr[token] = gateSlope(gate, weight, value) * dot;
}

#define ROUTING(V)                                                                                                    \
  extern "C" __global__ void routerLogits##V(const activation *x, const float *w, float *r, int tokens, int width) {  \
    dotRow<V>(x, 0, w, 0, r, tokens, width);                                                                          \
  }                                                                                                                   \
  extern "C" __global__ void addRouterLogits##V(const activation *x, const activation *branch, const float *w,        \
                                               activation *total, float *r, int tokens, int width) {                  \
    dotRow<V>(x, branch, w, total, r, tokens, width);                                                                 \
  }                                                                                                                   \
  extern "C" __global__ void gather##V(const activation *x, const int *indices, activation *rows, int slots, int k,   \
                                       int length, int width) {                                                       \
    gatherRow<V>(x, indices, rows, slots, k, length, width);                                                          \
  }                                                                                                                   \
  extern "C" __global__ void scatterAdd##V(const activation *rows, const int *indices, const float *r, activation *y, \
                                           int slots, int k, int length, int width, int gate) {                       \
    scatterRow<V>(rows, indices, r, y, slots, k, length, width, gate);                                                \
  }                                                                                                                   \
  extern "C" __global__ void scatterAddGrad##V(const activation *dout, const activation *rows, const float *r,        \
                                               const int *indices, activation *drows, float *dr, int slots, int k,    \
                                               int length, int width, int gate) {                                     \
    scatterGradRow<V>(dout, rows, r, indices, drows, dr, slots, k, length, width, gate);                              \
  }
FOR_EACH_WIDTH(ROUTING)

// A float as an unsigned integer of the same order. -0 is 0, as equal weights must have equal keys; NaN is the lowest.
__device__ inline unsigned orderedKey(float x) {
  if (x != x) return 0;
  unsigned bits = __float_as_uint(x == 0.0f ? 0.0f : x);
  return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}

// The exclusive sum of `count` over the threads of a block, and the total. Blocks of 1024 threads.
__device__ inline int blockScan(int count, int &total) {
  __shared__ int warpTotals[WARP];
  int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP, sum = count;
#pragma unroll
  for (int offset = 1; offset < WARP; offset *= 2) {
    int other = __shfl_up_sync(FULL, sum, offset);
    if (lane >= offset) sum += other;
  }
  __syncthreads(); // an earlier call's totals may still be read
  if (lane == WARP - 1) warpTotals[warp] = sum;
  __syncthreads();
  int before = 0;
  total = 0;
  for (int w = 0; w < blockDim.x / WARP; w++) {
    if (w < warp) before += warpTotals[w];
    total += warpTotals[w];
  }
  return before + sum - count;
}

// The k largest of each row of r [B, T], ties to the lower position: writes indices [B, k], ascending, and mask [B, T], 1 for
// the selected, else 0. Finds the k-th largest key bit by bit from the highest, as __syncthreads_count counts the keys, and
// stops early if exactly k keys are left; then one pass over the row selects larger keys, and equal ones up to k in total.
// One block of 1024 threads per row.
extern "C" __global__ void selectTopK(const float *r, int *indices, float *mask, int length, int k) {
  const float *row = r + (long long)blockIdx.x * length;
  unsigned own = threadIdx.x < length ? orderedKey(row[threadIdx.x]) : 0; // this thread's first key
  auto keyAt = [&](int start) {
    int t = start + threadIdx.x;
    return start == 0 ? own : t < length ? orderedKey(row[t]) : 0;
  };
  auto atLeast = [&](unsigned least) { // the number of keys >= least > 0; keys beyond the row are 0
    int count = 0;
    for (int start = 0; start < length; start += blockDim.x) count += __syncthreads_count(keyAt(start) >= least);
    return count;
  };
  unsigned threshold = 0;
  int found = 0;
  for (unsigned bit = 0x80000000u; bit != 0 && found != k; bit >>= 1) {
    int count = atLeast(threshold | bit);
    if (count < k) continue;
    threshold |= bit;
    found = count;
  }
  int equalSlots = k - (threshold == 0xffffffffu ? 0 : atLeast(threshold + 1)); // for keys equal to the threshold
  int equalBefore = 0, aboveBefore = 0;
  for (int start = 0; start < length; start += blockDim.x) {
    int t = start + threadIdx.x, total;
    unsigned key = keyAt(start);
    int isEqual = t < length && key == threshold, isAbove = t < length && key > threshold;
    int before = blockScan(isEqual | isAbove << 16, total); // at most 1024 of each
    int equals = equalBefore + (before & 0xffff), above = aboveBefore + (before >> 16);
    bool selected = isAbove || (isEqual && equals < equalSlots);
    if (t < length) mask[(long long)blockIdx.x * length + t] = selected ? 1.0f : 0.0f;
    if (selected) indices[(long long)blockIdx.x * k + above + min(equals, equalSlots)] = t;
    equalBefore += total & 0xffff;
    aboveBefore += total >> 16;
  }
}

// Four random words of a counter and a key: Philox4x32-10 (Salmon et al. 2011).
__device__ __forceinline__ uint4 philox(uint4 c, unsigned k0, unsigned k1) {
#pragma unroll
  for (int round = 0; round < 10; round++) {
    unsigned high0 = __umulhi(0xD2511F53u, c.x), low0 = 0xD2511F53u * c.x;
    unsigned high1 = __umulhi(0xCD9E8D57u, c.z), low1 = 0xCD9E8D57u * c.z;
    c = make_uint4(high1 ^ c.y ^ k0, low1, high0 ^ c.w ^ k1, low0);
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  return c;
}

// Two N(0, 1) numbers from two words (Box and Muller 1958), as in src/ops/normal-draws.ts.
__device__ __forceinline__ float2 normalPair(unsigned a, unsigned b) {
  float radius = sqrtf(-2.0f * logf(((float)(a >> 9) + 0.5f) * 0x1p-23f)), sine, cosine;
  sincospif(2.0f * ((float)(b >> 9) + 0.5f) * 0x1p-23f, &sine, &cosine);
  return make_float2(radius * cosine, radius * sine);
}

// draws [sequences, length] from N(0, 1), by key and position alone: four of a thread, of the counter (group, first + sequence).
// Grid: sequences · groups threads, groups = ceil(length / 4).
extern "C" __global__ void normalDraws(const int *key, const int *first, float *draws, int sequences, int length,
                                       int groups) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= sequences * groups) return;
  int sequence = i / groups, group = i % groups;
  uint4 words = philox(make_uint4(group, first[0] + sequence, 0, 0), key[0], key[1]);
  float2 a = normalPair(words.x, words.y), b = normalPair(words.z, words.w);
  float values[4] = {a.x, a.y, b.x, b.y};
  for (int j = 0; j < 4; j++) {
    int t = 4 * group + j;
    if (t < length) draws[(long long)sequence * length + t] = values[j];
  }
}
