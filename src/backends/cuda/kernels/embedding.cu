// Embedding rows, and their gradient without atomics: tokens are sorted by value, then the rows of equal tokens are summed in
// the order of their positions, so always in the same order.
// Four kernels of the gradient in order: countDigits, scanCounts and moveByDigit for each digit, sumRuns, joinRuns.

// y[i] = table[tokens[i]], float32 table [V, width]. One warp per token; grid: tokens / warps of a block.
#define EMBEDDING(V)                                                                                                  \
  extern "C" __global__ void embedding##V(const float *table, const int *tokens, activation *y, int count,            \
                                          int width) {                                                                \
    int i = blockIdx.x * (blockDim.x / WARP) + threadIdx.x / WARP, lane = threadIdx.x % WARP;                         \
    if (i >= count) return;                                                                                           \
    const float *from = table + (long long)tokens[i] * width;                                                         \
    for (int at = lane * V; at < width; at += WARP * V) {                                                             \
      float a[V];                                                                                                     \
      load<V>(from + at, a);                                                                                          \
      store<V>(y + (long long)i * width + at, a);                                                                     \
    }                                                                                                                 \
  }
FOR_EACH_WIDTH(EMBEDDING)

// A stable radix sort of pairs (key, position) by eight bits per pass. Blocks of 256 threads and 2048 pairs: each warp moves 256
// of them in order. Grid: pairs / 2048.
#define DIGITS 256
#define PAIRS_PER_WARP 256
#define WARPS 8

__device__ inline int digitOf(int key, int shift) { return key >> shift & (DIGITS - 1); }

// counts[digit · blocks + block] = the number of keys of the block that have the digit.
extern "C" __global__ void countDigits(const int *keys, int *counts, int count, int shift) {
  __shared__ int histogram[DIGITS];
  histogram[threadIdx.x] = 0;
  __syncthreads();
  int start = blockIdx.x * PAIRS_PER_WARP * WARPS;
  for (int i = threadIdx.x; i < PAIRS_PER_WARP * WARPS; i += blockDim.x)
    if (start + i < count) atomicAdd(&histogram[digitOf(keys[start + i], shift)], 1); // integers: the same in any order
  __syncthreads();
  counts[threadIdx.x * gridDim.x + blockIdx.x] = histogram[threadIdx.x];
}

// The exclusive sum of `count` numbers, a multiple of 16, in place. One block of 1024 threads, 16 numbers of a thread at a time.
extern "C" __global__ void scanCounts(int *counts, int count) {
  __shared__ int totals[WARP];
  int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP, carry = 0;
  for (int start = 0; start < count; start += 16 * blockDim.x) {
    int i = start + 16 * threadIdx.x, own = 0;
    int4 numbers[4];
#pragma unroll
    for (int j = 0; j < 4; j++) {
      numbers[j] = i < count ? ((const int4 *)(counts + i))[j] : make_int4(0, 0, 0, 0);
      own += numbers[j].x + numbers[j].y + numbers[j].z + numbers[j].w;
    }
    int sum = own;
#pragma unroll
    for (int offset = 1; offset < WARP; offset *= 2) {
      int other = __shfl_up_sync(FULL, sum, offset);
      if (lane >= offset) sum += other;
    }
    __syncthreads(); // earlier totals may still be read
    if (lane == WARP - 1) totals[warp] = sum;
    __syncthreads();
    int before = carry + sum - own;
    for (int w = 0; w < WARP; w++) {
      if (w < warp) before += totals[w];
      carry += totals[w];
    }
    if (i >= count) continue;
#pragma unroll
    for (int j = 0; j < 4; j++) {
      int4 sums = make_int4(before, 0, 0, 0);
      sums.y = sums.x + numbers[j].x;
      sums.z = sums.y + numbers[j].y;
      sums.w = sums.z + numbers[j].z;
      before = sums.w + numbers[j].w;
      ((int4 *)(counts + i))[j] = sums;
    }
  }
}

// Moves every pair to its sorted index; offsets are the scanned counts. positions null: a pair's position is its index.
extern "C" __global__ void moveByDigit(const int *keys, const int *positions, const int *offsets, int *keysOut,
                                       int *positionsOut, int count, int shift) {
  __shared__ int next[WARPS][DIGITS];
  int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
  for (int i = threadIdx.x; i < WARPS * DIGITS; i += blockDim.x) next[i / DIGITS][i % DIGITS] = 0;
  __syncthreads();
  int start = (blockIdx.x * WARPS + warp) * PAIRS_PER_WARP;
  for (int i = lane; i < PAIRS_PER_WARP; i += WARP)
    if (start + i < count) atomicAdd(&next[warp][digitOf(keys[start + i], shift)], 1);
  __syncthreads();
  int digit = threadIdx.x, offset = offsets[digit * gridDim.x + blockIdx.x];
  for (int w = 0; w < WARPS; w++) {
    int own = next[w][digit];
    next[w][digit] = offset;
    offset += own;
  }
  __syncthreads();
  for (int i = lane; i < PAIRS_PER_WARP; i += WARP) {
    bool valid = start + i < count;
    unsigned present = __ballot_sync(FULL, valid);
    if (!valid) continue;
    int key = keys[start + i], d = digitOf(key, shift);
    unsigned peers = __match_any_sync(present, d), before = peers & ((1u << lane) - 1);
    int to = next[warp][d] + __popc(before);
    __syncwarp(present);
    if (before == 0) next[warp][d] += __popc(peers);
    __syncwarp(present);
    keysOut[to] = key;
    positionsOut[to] = positions != 0 ? positions[start + i] : start + i;
  }
}

// Rows or chunks that a thread loads before it uses the first.
#define AHEAD 8

// Sums dy over runs of equal keys within a chunk of `ofChunk` sorted pairs. The sum of a run within the chunk is added to
// dtable[key]; a first run that began before the chunk goes to heads[chunk], and a last run that continues after it to
// tails[chunk]. A chunk that is one such run is a head. V columns of a thread; grid: (chunks, columns / V / threads).
template <int V>
__device__ void sumRunsOf(const activation *dy, const int *keys, const int *positions, float *dtable, float *heads,
                          float *tails, int count, int width, int ofChunk) {
  int column = (blockIdx.y * blockDim.x + threadIdx.x) * V;
  if (column >= width) return;
  int start = blockIdx.x * ofChunk, end = min(count, start + ofChunk), firstKey = keys[start];
  bool fromBefore = start > 0 && keys[start - 1] == firstKey;
  bool beyond = end < count && keys[end] == keys[end - 1];
  float sum[V];
#pragma unroll
  for (int e = 0; e < V; e++) sum[e] = 0.0f;
  for (int batch = start; batch < end; batch += AHEAD) {
    Packed<V> rows[AHEAD];
    int key[AHEAD + 1];
#pragma unroll
    for (int j = 0; j <= AHEAD; j++) key[j] = batch + j < end ? keys[batch + j] : -1;
#pragma unroll
    for (int j = 0; j < AHEAD; j++)
      if (batch + j < end) rows[j] = fetch<V>(dy + (long long)positions[batch + j] * width + column);
#pragma unroll
    for (int j = 0; j < AHEAD; j++) {
      if (batch + j >= end) continue;
      float row[V];
      unpack<V>(rows[j], row);
#pragma unroll
      for (int e = 0; e < V; e++) sum[e] += row[e];
      if (key[j + 1] == key[j]) continue;
      bool first = key[j] == firstKey && fromBefore, last = batch + j + 1 == end && beyond;
      float *to = first ? heads + (long long)blockIdx.x * width
                  : last ? tails + (long long)blockIdx.x * width
                         : dtable + (long long)key[j] * width;
      if (!first && !last) {
        load<V>(to + column, row);
#pragma unroll
        for (int e = 0; e < V; e++) sum[e] += row[e];
      }
      store<V>(to + column, sum);
#pragma unroll
      for (int e = 0; e < V; e++) sum[e] = 0.0f;
    }
  }
}

// dtable[key] += the sum of a run that crosses chunks: the tail of the chunk where it starts and the heads of the following
// chunks. Grid as above.
template <int V>
__device__ void joinRunsOf(const int *keys, float *dtable, const float *heads, const float *tails, int count, int width,
                           int ofChunk) {
  int column = (blockIdx.y * blockDim.x + threadIdx.x) * V;
  if (column >= width) return;
  int start = blockIdx.x * ofChunk, end = min(count, start + ofChunk);
  if (end >= count || keys[end] != keys[end - 1]) return;                // the last run ends in this chunk
  int key = keys[end - 1];
  if (keys[start] == key && start > 0 && keys[start - 1] == key) return; // it started in an earlier chunk
  float sum[V], part[AHEAD][V];
  load<V>(tails + (long long)blockIdx.x * width + column, sum);
  bool within[AHEAD];
  int chunk = blockIdx.x + 1;
  do {
#pragma unroll
    for (int j = 0; j < AHEAD; j++) {
      int at = (chunk + j) * ofChunk; // keys ascend: the run reaches a chunk if the chunk's first key is the run's
      within[j] = at < count && keys[at] == key;
    }
#pragma unroll
    for (int j = 0; j < AHEAD; j++)
      if (within[j]) load<V>(heads + (long long)(chunk + j) * width + column, part[j]);
#pragma unroll
    for (int j = 0; j < AHEAD; j++)
#pragma unroll
      for (int e = 0; e < V; e++)
        if (within[j]) sum[e] += part[j][e];
    chunk += AHEAD;
  } while (within[AHEAD - 1]);
  float *to = dtable + (long long)key * width + column, before[V];
  load<V>(to, before);
#pragma unroll
  for (int e = 0; e < V; e++) sum[e] += before[e];
  store<V>(to, sum);
}

#define RUNS(V)                                                                                                       \
  extern "C" __global__ void sumRuns##V(const activation *dy, const int *keys, const int *positions, float *dtable,   \
                                        float *heads, float *tails, int count, int width, int ofChunk) {              \
    sumRunsOf<V>(dy, keys, positions, dtable, heads, tails, count, width, ofChunk);                                   \
  }                                                                                                                   \
  extern "C" __global__ void joinRuns##V(const int *keys, float *dtable, const float *heads, const float *tails,      \
                                         int count, int width, int ofChunk) {                                         \
    joinRunsOf<V>(keys, dtable, heads, tails, count, width, ofChunk);                                                 \
  }
RUNS(1) RUNS(2)
