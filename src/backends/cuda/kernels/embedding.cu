// Embedding rows, and their gradient without atomics: tokens are sorted by value, stably, then equal ones are summed in
// the order of their places.

// y[i] = table[tokens[i]]. One warp a token; grid: tokens / warps of a block.
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

// A stable radix sort of (key, place) by eight bits a pass. A block sorts 2048 pairs, each warp 256 of them in order.
#define DIGITS 256
#define OF_WARP 256
#define WARPS 8

__device__ inline int digitOf(int key, int shift) { return key >> shift & (DIGITS - 1); }

// counts[digit · blocks + block]: how many keys of the block have the digit.
extern "C" __global__ void countDigits(const int *keys, int *counts, int count, int shift) {
  __shared__ int histogram[DIGITS];
  histogram[threadIdx.x] = 0;
  __syncthreads();
  int start = blockIdx.x * OF_WARP * WARPS;
  for (int i = threadIdx.x; i < OF_WARP * WARPS; i += blockDim.x)
    if (start + i < count) atomicAdd(&histogram[digitOf(keys[start + i], shift)], 1); // counts: in any order the same
  __syncthreads();
  counts[threadIdx.x * gridDim.x + blockIdx.x] = histogram[threadIdx.x];
}

// The exclusive sum of `count` numbers, in place. One block of 1024 threads.
extern "C" __global__ void scanCounts(int *counts, int count) {
  __shared__ int totals[WARP];
  __shared__ int carry;
  int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
  if (threadIdx.x == 0) carry = 0;
  for (int start = 0; start < count; start += blockDim.x) {
    int i = start + threadIdx.x, own = i < count ? counts[i] : 0, sum = own;
#pragma unroll
    for (int offset = 1; offset < WARP; offset *= 2) {
      int other = __shfl_up_sync(FULL, sum, offset);
      if (lane >= offset) sum += other;
    }
    if (lane == WARP - 1) totals[warp] = sum;
    __syncthreads();
    int before = carry, all = carry;
    for (int w = 0; w < WARP; w++) {
      if (w < warp) before += totals[w];
      all += totals[w];
    }
    __syncthreads();
    if (i < count) counts[i] = before + sum - own;
    if (threadIdx.x == 0) carry = all;
    __syncthreads();
  }
}

// Moves every pair to its place; offsets are the scanned counts. Without places, a pair's place is its index.
extern "C" __global__ void moveByDigit(const int *keys, const int *places, const int *offsets, int *keysOut,
                                       int *placesOut, int count, int shift) {
  __shared__ int next[WARPS][DIGITS];
  int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
  for (int i = threadIdx.x; i < WARPS * DIGITS; i += blockDim.x) next[i / DIGITS][i % DIGITS] = 0;
  __syncthreads();
  int start = (blockIdx.x * WARPS + warp) * OF_WARP;
  for (int i = lane; i < OF_WARP; i += WARP)
    if (start + i < count) atomicAdd(&next[warp][digitOf(keys[start + i], shift)], 1);
  __syncthreads();
  int digit = threadIdx.x, offset = offsets[digit * gridDim.x + blockIdx.x];
  for (int w = 0; w < WARPS; w++) {
    int own = next[w][digit];
    next[w][digit] = offset;
    offset += own;
  }
  __syncthreads();
  for (int i = lane; i < OF_WARP; i += WARP) {
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
    placesOut[to] = places != 0 ? places[start + i] : start + i;
  }
}

// Sums dy over runs of equal keys within a chunk of sorted pairs. A run that lies within the chunk goes to the table;
// the chunk's first run goes to heads[chunk] and its last to tails[chunk] where they may go on beyond it. A chunk that
// is one run is a head. dtable[key] = (so far, if accumulate) + sum. Threads take columns; grid: (chunks, columns / threads).
extern "C" __global__ void sumRuns(const activation *dy, const int *keys, const int *places, float *dtable, float *heads,
                                   float *tails, int count, int width, int ofChunk) {
  int column = blockIdx.y * blockDim.x + threadIdx.x;
  if (column >= width) return;
  int start = blockIdx.x * ofChunk, end = min(count, start + ofChunk);
  bool fromBefore = start > 0 && keys[start - 1] == keys[start];
  bool beyond = end < count && keys[end] == keys[end - 1];
  float sum = 0.0f;
  for (int i = start; i < end; i++) {
    int key = keys[i];
    sum += toFloat(dy[(long long)places[i] * width + column]);
    if (i + 1 < end && keys[i + 1] == key) continue;
    bool first = keys[start] == key && fromBefore, last = i + 1 == end && beyond;
    if (first) heads[(long long)blockIdx.x * width + column] = sum;
    else if (last) tails[(long long)blockIdx.x * width + column] = sum;
    else dtable[(long long)key * width + column] += sum;
    sum = 0.0f;
  }
}

// Adds up the runs that cross chunks: the chunk where one starts takes its tail and the heads of those after it.
extern "C" __global__ void joinRuns(const int *keys, float *dtable, const float *heads, const float *tails, int count,
                                    int width, int ofChunk) {
  int column = blockIdx.y * blockDim.x + threadIdx.x;
  if (column >= width) return;
  int start = blockIdx.x * ofChunk, end = min(count, start + ofChunk);
  if (end >= count || keys[end] != keys[end - 1]) return;                          // the last run ends here
  int key = keys[end - 1];
  if (keys[start] == key && start > 0 && keys[start - 1] == key) return;           // it started before
  float sum = tails[(long long)blockIdx.x * width + column];
  for (int chunk = blockIdx.x + 1;; chunk++) {
    sum += heads[(long long)chunk * width + column];
    int next = (chunk + 1) * ofChunk;
    if (next >= count || keys[next] != key || keys[next - 1] != key) break;
  }
  dtable[(long long)key * width + column] += sum;
}
