// What a routed block adds to a transformer: router weights, the choice of k tokens a sequence, rows gathered and put
// back scaled by the gate. Router weights are float32 throughout. An index of T marks padding: it reads zeros and
// writes nothing. `slots` are the B·k places of selected tokens, `tokens` the B·T of all.

#include "gate.cu"

// r[token] = x[token]·w, or of a residual sum: with a branch, sum = x + branch as stored, r = sum·w. One warp a token;
// grid: tokens / warps of a block.
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

// dx[token] = (dx so far) + dr[token]·w; partials[block] = Σ dr·x over the block's tokens, [width]. A token whose dr is 0,
// as it is of most where nothing but the gate asks for it, is neither read nor written where accumulate is 1. A persistent
// grid: any number of blocks; a warp looks at 32 tokens at once and takes their rows one after another, J groups of V
// columns a lane, width at most J·V·32 and a multiple of V.
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

// Of selected tokens alone: dx[token] = (dx so far) + drows[slot] + dr[token]·w; partials[block] = Σ dr·rows over the block's
// slots, [width]. Padding gives nothing. A persistent grid as logitsGradRows'; a warp asks for a slot's rows while it works
// at those of the one before: no token has two slots.
template <int V, int J>
__device__ void takeGradRows(const float *dr, const activation *drows, const activation *rows, const int *indices,
                             const float *w, activation *dx, float *partials, int slots, int k, int length, int width) {
  extern __shared__ float columns[];
  int warp = threadIdx.x / WARP, lane = threadIdx.x % WARP, warps = blockDim.x / WARP, stride = gridDim.x * warps;
  float dweight[J][V];
#pragma unroll
  for (int j = 0; j < J; j++)
#pragma unroll
    for (int e = 0; e < V; e++) dweight[j][e] = 0.0f;
  for (int first = blockIdx.x * warps + warp; first < slots; first += WARP * stride) {
    // The places and numbers of as many slots as there are lanes.
    int own = first + lane * stride, ownToken = -1;
    if (own < slots && indices[own] < length) ownToken = own / k * length + indices[own];
    float ownDr = ownToken < 0 ? 0.0f : dr[ownToken];
    Packed<V> nextRows[J], nextGradient[J], nextGradAccum[J];
    auto ask = [&](int turn) {
      int slot = first + turn * stride, token = __shfl_sync(FULL, ownToken, turn);
      if (token < 0) return; // also where there is no such slot
#pragma unroll
      for (int j = 0; j < J; j++) {
        int i = (j * WARP + lane) * V;
        if (i >= width) continue;
        nextRows[j] = fetch<V>(rows + (long long)slot * width + i);
        nextGradient[j] = fetch<V>(drows + (long long)slot * width + i);
        nextGradAccum[j] = fetch<V>(dx + (long long)token * width + i);
      }
    };
    ask(0);
    for (int turn = 0; turn < WARP && first + turn * stride < slots; turn++) {
      int token = __shfl_sync(FULL, ownToken, turn);
      float d = __shfl_sync(FULL, ownDr, turn);
      Packed<V> row[J], gradient[J], gradAccum[J];
#pragma unroll
      for (int j = 0; j < J; j++) {
        row[j] = nextRows[j];
        gradient[j] = nextGradient[j];
        gradAccum[j] = nextGradAccum[j];
      }
      if (turn + 1 < WARP) ask(turn + 1);
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

// As many blocks on a multiprocessor as the norm's gradient has.
#define LOGITS_GRAD(V, J, BLOCKS)                                                                                     \
  extern "C" __global__ void __launch_bounds__(256, BLOCKS)                                                           \
      routerLogitsGrad##V##x##J(const float *dr, const activation *x, const float *w, activation *dx, float *partials, \
                               int tokens, int width, int accumulate) {                                               \
    logitsGradRows<V, J>(dr, x, w, dx, partials, tokens, width, accumulate);                                          \
  }                                                                                                                   \
  extern "C" __global__ void __launch_bounds__(256, BLOCKS)                                                           \
      routedGatherGrad##V##x##J(const float *dr, const activation *drows, const activation *rows, const int *indices,   \
                              const float *w, activation *dx, float *partials, int slots, int k, int length,          \
                              int width) {                                                                            \
    takeGradRows<V, J>(dr, drows, rows, indices, w, dx, partials, slots, k, length, width);                           \
  }
LOGITS_GRAD(2, 1, 4) LOGITS_GRAD(2, 3, 4) LOGITS_GRAD(2, 5, 4) LOGITS_GRAD(2, 7, 4)
LOGITS_GRAD(8, 1, 4) LOGITS_GRAD(8, 2, 3) LOGITS_GRAD(8, 3, 2) LOGITS_GRAD(8, 4, 2) LOGITS_GRAD(8, 8, 1)

// dx alone, for any width. One warp a token; grid: tokens / warps of a block.
extern "C" __global__ void routerLogitsGradAnyWidth(const float *dr, const float *w, activation *dx, int tokens,
                                                   int width, int accumulate) {
  int token = blockIdx.x * (blockDim.x / WARP) + threadIdx.x / WARP, lane = threadIdx.x % WARP;
  if (token >= tokens) return;
  float d = dr[token];
  activation *row = dx + (long long)token * width;
  for (int i = lane; i < width; i += WARP) assign(row[i], d * w[i] + (accumulate ? toFloat(row[i]) : 0.0f));
}

// dx alone, for any width, and ofSlots[slot] = dr of its token, 0 for padding. One warp a slot; grid: slots / warps of a block.
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

// rows[slot] = x[its token], 0 for padding. One warp a slot; grid: slots / warps of a block.
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

// y[the slot's token] += gate·rows[slot], gate(r) of the token or 1 where r is none. Every token has one slot at most,
// so nothing collides. Grid as gatherRow's.
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

// drows[slot] = gate(r)·dout[token], 0 for padding; dr[token] = gate'(r)·(dout[token]·rows[slot]); dr is 0 elsewhere
// already. Grid as gatherRow's.
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
  extern "C" __global__ void routerLogits##V(const activation *x, const float *w, float *r, int tokens, int width) {   \
    dotRow<V>(x, 0, w, 0, r, tokens, width);                                                                          \
  }                                                                                                                   \
  extern "C" __global__ void addRouterLogits##V(const activation *x, const activation *branch, const float *w,         \
                                               activation *total, float *r, int tokens, int width) {                  \
    dotRow<V>(x, branch, w, total, r, tokens, width);                                                                 \
  }                                                                                                                   \
  extern "C" __global__ void gather##V(const activation *x, const int *indices, activation *rows, int slots, int k,   \
                                       int length, int width) {                                                       \
    gatherRow<V>(x, indices, rows, slots, k, length, width);                                                          \
  }                                                                                                                   \
  extern "C" __global__ void scatterAdd##V(const activation *rows, const int *indices, const float *r, activation *y, \
                                           int slots, int k, int length, int width, int gate) {                  \
    scatterRow<V>(rows, indices, r, y, slots, k, length, width, gate);                                           \
  }                                                                                                                   \
  extern "C" __global__ void scatterAddGrad##V(const activation *dout, const activation *rows, const float *r,        \
                                               const int *indices, activation *drows, float *dr, int slots, int k,    \
                                               int length, int width, int gate) {                                \
    scatterGradRow<V>(dout, rows, r, indices, drows, dr, slots, k, length, width, gate);                         \
  }
FOR_EACH_WIDTH(ROUTING)

// A float as an unsigned number of the same order; NaN, and -0 like 0: equal weights must be equal keys.
__device__ inline unsigned orderedKey(float x) {
  if (x != x) return 0;
  unsigned bits = __float_as_uint(x == 0.0f ? 0.0f : x);
  return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}

// The exclusive sum over a block of `count` per thread, and the total. Blocks of 1024 threads.
__device__ inline int blockScan(int count, int &total) {
  __shared__ int warpTotals[WARP];
  int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP, sum = count;
#pragma unroll
  for (int offset = 1; offset < WARP; offset *= 2) {
    int other = __shfl_up_sync(FULL, sum, offset);
    if (lane >= offset) sum += other;
  }
  __syncthreads(); // a call before this one may still be read
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

// The k largest of each row of r [B, T], ties to the lower position: indices [B, k] ascending, member [B, T] 0 or 1.
// Finds the k-th largest key bit by bit from the top, as the barrier itself counts, and stops where exactly k keys are
// left; then walks the row once: larger keys are taken, equal ones while there is room. One block of 1024 threads a row.
extern "C" __global__ void selectTopK(const float *r, int *indices, float *member, int length, int k) {
  const float *row = r + (long long)blockIdx.x * length;
  unsigned own = threadIdx.x < length ? orderedKey(row[threadIdx.x]) : 0; // the first of this thread's keys
  auto keyAt = [&](int start) {
    int t = start + threadIdx.x;
    return start == 0 ? own : t < length ? orderedKey(row[t]) : 0;
  };
  auto atLeast = [&](unsigned least) { // how many keys of the row; least is above 0, which keys beyond it are
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
  int room = k - (threshold == 0xffffffffu ? 0 : atLeast(threshold + 1)); // for keys equal to the threshold
  int equalBefore = 0, aboveBefore = 0;
  for (int start = 0; start < length; start += blockDim.x) {
    int t = start + threadIdx.x, total;
    unsigned key = keyAt(start);
    int isEqual = t < length && key == threshold, isAbove = t < length && key > threshold;
    int before = blockScan(isEqual | isAbove << 16, total); // at most 1024 of each
    int equals = equalBefore + (before & 0xffff), above = aboveBefore + (before >> 16);
    bool take = isAbove || (isEqual && equals < room);
    if (t < length) member[(long long)blockIdx.x * length + t] = take ? 1.0f : 0.0f;
    if (take) indices[(long long)blockIdx.x * k + above + min(equals, room)] = t;
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

// A pair of N(0, 1) numbers of two words (Box and Muller 1958): see src/ops/normal-draws.ts.
__device__ __forceinline__ float2 normalPair(unsigned a, unsigned b) {
  float radius = sqrtf(-2.0f * logf(((float)(a >> 9) + 0.5f) * 0x1p-23f)), sine, cosine;
  sincospif(2.0f * ((float)(b >> 9) + 0.5f) * 0x1p-23f, &sine, &cosine);
  return make_float2(radius * cosine, radius * sine);
}

// draws[sequence][t], four of a thread; grid: sequences * groups threads, groups = ceil(length / 4).
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
