// Causal attention for what cuDNN does not support, float32 and head sizes that are not a multiple of eight:
//   P = softmax(scale·q·kᵀ) over the keys up to the query, out = P·v, logSumExp = log Σ exp(scale·q·kᵀ)
// with an online softmax (Dao et al. 2022), so that no [n, n] matrix is stored; sums are always in the same order.
// qkv [B, n, 3, H, K], its q and k rotated; out [B, n, H, K]; logSumExp and delta [B, H, n].
// Blocks of 256 threads, 32 rows × 8: thread (i, j) has row i and every eighth column from j. Grid: (B·H, tiles of 32).
// At the end the kernels of evaluation and decoding: packed sequences, and one new token that attends to a cache.

#define TILE 32
#define LANES 8
#define MAX_COLUMNS 32 // per thread: heads of at most 256

struct Heads {
  int n, heads, size, batch, head;
  long long first; // the row of the sequence's first token
  __device__ Heads(int n, int heads, int size)
      : n(n), heads(heads), size(size), batch(blockIdx.x / heads), head(blockIdx.x % heads), first((long long)batch * n) {}
  // Offsets of row t: of q, k or v (0, 1, 2), of a tensor with heads merged, and of one number per row.
  __device__ long long packed(int t, int which) const {
    return ((first + t) * 3 + which) * heads * size + head * size;
  }
  __device__ long long merged(int t) const { return ((first + t) * heads + head) * size; }
  __device__ long long scalar(int t) const { return ((long long)batch * heads + head) * n + t; }
};

// Copies the rows from `start` of q, k or v, or of a merged tensor (which = 3), to shared memory; 0 beyond the end.
__device__ inline void loadTile(const activation *x, const Heads &h, int which, int start, float *tile) {
  for (int i = threadIdx.x; i < TILE * h.size; i += blockDim.x) {
    int row = i / h.size, column = i % h.size, t = start + row;
    float value = 0.0f;
    if (t < h.n) value = toFloat(x[(which == 3 ? h.merged(t) : h.packed(t, which)) + column]);
    tile[row * (h.size + 1) + column] = value;
  }
}

__device__ inline float dot(const float *a, const float *b, int size) {
  float sum[4] = {0.0f, 0.0f, 0.0f, 0.0f}; // four sums round less than one and are independent
  int c = 0;
  for (; c + 4 <= size; c += 4) {
#pragma unroll
    for (int j = 0; j < 4; j++) sum[j] += a[c + j] * b[c + j];
  }
  for (; c < size; c++) sum[0] += a[c] * b[c];
  return (sum[0] + sum[1]) + (sum[2] + sum[3]);
}

// The sum, and the maximum, over the eight threads of a row.
__device__ inline float rowSum(float x) {
#pragma unroll
  for (int offset = LANES / 2; offset > 0; offset /= 2) x += __shfl_xor_sync(FULL, x, offset);
  return x;
}
__device__ inline float rowMax(float x) {
#pragma unroll
  for (int offset = LANES / 2; offset > 0; offset /= 2) x = fmaxf(x, __shfl_xor_sync(FULL, x, offset));
  return x;
}

// A tile of queries, against all tiles of keys up to it.
__device__ void attend(const Heads &h, const activation *qkv, activation *out, float *logSumExp, float scale) {
  extern __shared__ float shared[];
  int n = h.n, size = h.size;
  int pitch = size + 1, i = threadIdx.x / LANES, j = threadIdx.x % LANES, start = blockIdx.y * TILE, query = start + i;
  float *q = shared, *kv = q + TILE * pitch, *weights = kv + TILE * pitch; // [TILE][TILE + 1]
  loadTile(qkv, h, 0, start, q);
  float sum[MAX_COLUMNS], top = NEGATIVE_INFINITY, total = 0.0f;
#pragma unroll
  for (int c = 0; c < MAX_COLUMNS; c++) sum[c] = 0.0f;
  for (int keys = 0; keys <= start; keys += TILE) {
    __syncthreads();
    loadTile(qkv, h, 1, keys, kv);
    __syncthreads();
    float score[TILE / LANES], best = NEGATIVE_INFINITY;
#pragma unroll
    for (int m = 0; m < TILE / LANES; m++) {
      int key = j + m * LANES;
      score[m] = keys + key <= query ? scale * dot(q + i * pitch, kv + key * pitch, size) : NEGATIVE_INFINITY;
      best = fmaxf(best, score[m]);
    }
    best = fmaxf(top, rowMax(best)); // finite: key 0 of the first tile is visible to every query
    float shrink = expf(top - best), added = 0.0f;
    top = best;
#pragma unroll
    for (int m = 0; m < TILE / LANES; m++) {
      float weight = expf(score[m] - top);
      weights[i * (TILE + 1) + j + m * LANES] = weight;
      added += weight;
    }
    total = total * shrink + rowSum(added);
    __syncthreads();
    loadTile(qkv, h, 2, keys, kv);
    __syncthreads();
#pragma unroll
    for (int c = 0; c < MAX_COLUMNS; c++) sum[c] *= shrink;
#pragma unroll 1
    for (int key = 0; key < TILE; key++) {
      float weight = weights[i * (TILE + 1) + key];
#pragma unroll
      for (int c = 0; c < MAX_COLUMNS; c++)
        if (j + c * LANES < size) sum[c] += weight * kv[key * pitch + j + c * LANES];
    }
  }
  if (query >= n) return;
#pragma unroll
  for (int c = 0; c < MAX_COLUMNS; c++) {
    int column = j + c * LANES;
    if (column < size) assign(out[h.merged(query) + column], sum[c] / total);
  }
  if (j == 0 && logSumExp != 0) logSumExp[h.scalar(query)] = top + logf(total);
}

// Reads qkv; writes out and logSumExp.
extern "C" __global__ void attention(const activation *qkv, activation *out, float *logSumExp, int n, int heads,
                                     int size, float scale) {
  attend(Heads(n, heads, size), qkv, out, logSumExp, scale);
}

// Packed sequences: sequence i is the lengths[i] rows from starts[i] on. Reads qkv [rows, 3, H, K]; writes out [rows, H, K].
// Grid: (sequences · H, tiles of the longest).
extern "C" __global__ void attentionSegments(const activation *qkv, activation *out, const int *starts,
                                             const int *lengths, int heads, int size, float scale) {
  Heads h(0, heads, size);
  h.first = starts[h.batch];
  h.n = lengths[h.batch];
  if ((int)blockIdx.y * TILE < h.n) attend(h, qkv, out, 0, scale);
}

// delta = Σ dout∘out over a head's columns. One warp for each token and head, `rows` in total; grid: rows / warps of a block.
extern "C" __global__ void attentionDelta(const activation *dout, const activation *out, float *delta, int n, int heads,
                                          int size, int rows) {
  int row = blockIdx.x * (blockDim.x / WARP) + threadIdx.x / WARP, lane = threadIdx.x % WARP;
  if (row >= rows) return;
  float sum = 0.0f;
  for (int c = lane; c < size; c += WARP)
    sum += toFloat(dout[(long long)row * size + c]) * toFloat(out[(long long)row * size + c]);
  sum = warpSum(sum);
  int token = row / heads, head = row % heads;
  if (lane == 0) delta[((long long)(token / n) * heads + head) * n + token % n] = sum;
}

// dS = P∘(dout·vᵀ - delta)·scale; dq = dS·k. Reads qkv, dout, logSumExp and delta; writes the q part of dqkv [B, n, 3, H, K].
extern "C" __global__ void attentionGradQuery(const activation *qkv, const activation *dout, const float *logSumExp,
                                              const float *delta, activation *dqkv, int n, int heads, int size,
                                              float scale) {
  extern __shared__ float shared[];
  Heads h(n, heads, size);
  int pitch = size + 1, i = threadIdx.x / LANES, j = threadIdx.x % LANES, start = blockIdx.y * TILE, query = start + i;
  float *q = shared, *d = q + TILE * pitch, *k = d + TILE * pitch, *v = k + TILE * pitch, *ds = v + TILE * pitch;
  loadTile(qkv, h, 0, start, q);
  loadTile(dout, h, 3, start, d);
  float lse = query < n ? logSumExp[h.scalar(query)] : 0.0f, shift = query < n ? delta[h.scalar(query)] : 0.0f;
  float sum[MAX_COLUMNS];
#pragma unroll
  for (int c = 0; c < MAX_COLUMNS; c++) sum[c] = 0.0f;
  for (int keys = 0; keys <= start; keys += TILE) {
    __syncthreads();
    loadTile(qkv, h, 1, keys, k);
    loadTile(qkv, h, 2, keys, v);
    __syncthreads();
#pragma unroll
    for (int m = 0; m < TILE / LANES; m++) {
      int key = j + m * LANES;
      float weight = keys + key <= query ? expf(scale * dot(q + i * pitch, k + key * pitch, size) - lse) : 0.0f;
      ds[i * (TILE + 1) + key] = weight * (dot(d + i * pitch, v + key * pitch, size) - shift) * scale;
    }
    __syncwarp(); // a row's threads are of one warp
#pragma unroll 1
    for (int key = 0; key < TILE; key++) {
      float slope = ds[i * (TILE + 1) + key];
#pragma unroll
      for (int c = 0; c < MAX_COLUMNS; c++)
        if (j + c * LANES < size) sum[c] += slope * k[key * pitch + j + c * LANES];
    }
  }
  if (query >= n) return;
#pragma unroll
  for (int c = 0; c < MAX_COLUMNS; c++) {
    int column = j + c * LANES;
    if (column < size) assign(dqkv[h.packed(query, 0) + column], sum[c]);
  }
}

// dk = dSᵀ·q and dv = Pᵀ·dout for a tile of keys; thread (i, j) has key i. Writes the k and v parts of dqkv.
extern "C" __global__ void attentionGradKeyValue(const activation *qkv, const activation *dout, const float *logSumExp,
                                                 const float *delta, activation *dqkv, int n, int heads, int size,
                                                 float scale) {
  extern __shared__ float shared[];
  Heads h(n, heads, size);
  int pitch = size + 1, i = threadIdx.x / LANES, j = threadIdx.x % LANES, start = blockIdx.y * TILE, key = start + i;
  float *k = shared, *v = k + TILE * pitch, *q = v + TILE * pitch, *d = q + TILE * pitch, *p = d + TILE * pitch;
  float *ds = p + TILE * (TILE + 1);
  loadTile(qkv, h, 1, start, k);
  loadTile(qkv, h, 2, start, v);
  float dk[MAX_COLUMNS], dv[MAX_COLUMNS];
#pragma unroll
  for (int c = 0; c < MAX_COLUMNS; c++) dk[c] = dv[c] = 0.0f;
  for (int queries = start; queries < n; queries += TILE) {
    __syncthreads();
    loadTile(qkv, h, 0, queries, q);
    loadTile(dout, h, 3, queries, d);
    __syncthreads();
#pragma unroll
    for (int m = 0; m < TILE / LANES; m++) {
      int row = j + m * LANES, query = queries + row;
      bool visible = query < n && key <= query;
      float weight = visible ? expf(scale * dot(q + row * pitch, k + i * pitch, size) - logSumExp[h.scalar(query)]) : 0.0f;
      p[i * (TILE + 1) + row] = weight;
      ds[i * (TILE + 1) + row] =
          visible ? weight * (dot(d + row * pitch, v + i * pitch, size) - delta[h.scalar(query)]) * scale : 0.0f;
    }
    __syncwarp();
#pragma unroll 1
    for (int row = 0; row < TILE; row++) {
      float slope = ds[i * (TILE + 1) + row], weight = p[i * (TILE + 1) + row];
#pragma unroll
      for (int c = 0; c < MAX_COLUMNS; c++) {
        int column = j + c * LANES;
        if (column >= size) continue;
        dk[c] += slope * q[row * pitch + column];
        dv[c] += weight * d[row * pitch + column];
      }
    }
  }
  if (key >= n) return;
#pragma unroll
  for (int c = 0; c < MAX_COLUMNS; c++) {
    int column = j + c * LANES;
    if (column >= size) continue;
    assign(dqkv[h.packed(key, 1) + column], dk[c]);
    assign(dqkv[h.packed(key, 2) + column], dv[c]);
  }
}

// One new token of each of b sequences: appends its key and value to the cache [S, slots, 2, H, K], which has lengths[i]
// tokens, then attends to all of them. Token i belongs to sequence rows[i]. Reads qkv [b, 3, H, K] and the cache; writes the
// cache's new row and out [b, H, K]. Grid: (b, H). A block of 256 threads, at least K, keeps the scores of `most` keys at a time
// in shared memory, with an online softmax over these parts.
extern "C" __global__ void attentionCached(const activation *qkv, activation *cache, const int *rows, const int *lengths,
                                           activation *out, int slots, int most, int heads, int size, float scale) {
  extern __shared__ float scores[];
  int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP, warps = blockDim.x / WARP, D = heads * size;
  int length = lengths[blockIdx.x], head = blockIdx.y * size, c = threadIdx.x;
  const activation *q = qkv + (long long)blockIdx.x * 3 * D + head;
  activation *keys = cache + (long long)rows[blockIdx.x] * slots * 2 * D + head, *values = keys + D;
  if (c < size) {
    keys[(long long)length * 2 * D + c] = q[D + c];
    values[(long long)length * 2 * D + c] = q[2 * D + c];
  }
  __syncthreads();
  float top = NEGATIVE_INFINITY, total = 0.0f, sum = 0.0f;
  for (int start = 0; start <= length; start += most) {
    int count = min(most, length + 1 - start);
    const activation *partKeys = keys + (long long)start * 2 * D, *partValues = values + (long long)start * 2 * D;
    for (int t = warp; t < count; t += warps) {
      float product = 0.0f;
      for (int i = lane; i < size; i += WARP) product += toFloat(q[i]) * toFloat(partKeys[(long long)t * 2 * D + i]);
      product = warpSum(product);
      if (lane == 0) scores[t] = scale * product;
    }
    __syncthreads();
    float higher = top, part = 0.0f;
    for (int t = 0; t < count; t++) higher = fmaxf(higher, scores[t]);
    for (int t = threadIdx.x; t < count; t += blockDim.x) part += expf(scores[t] - higher);
    float before = start == 0 ? 0.0f : expf(top - higher);
    total = total * before + blockSum(part);
    sum *= before;
    if (c < size)
      for (int t = 0; t < count; t++) sum += expf(scores[t] - higher) * toFloat(partValues[(long long)t * 2 * D + c]);
    top = higher;
    __syncthreads(); // the scores are overwritten
  }
  if (c < size) assign(out[(long long)blockIdx.x * D + head + c], sum / total);
}
