// Rotary positions and causal attention of short sequences, fused, forward and backward, on tensor cores; bf16 only:
//   P = softmax(scale·q·kᵀ) over the keys up to the query, out = P·v, logSumExp of the scaled scores.
// A block has one head of a sequence, whose q, k and v fit in shared memory: the few tokens of a routed block are bound by
// memory traffic. Grid: B·H, heads the fastest. qkv [B, n, 3, H, K]; table [P, K], rows of K/2 cosines, then K/2 sines;
// positions [B, n], or null: the token's index in its sequence; out [B, n, H, K]; logSumExp [B, H, n].
// A warp processes strips of 16 rows. Tensor cores multiply [16, 16] by [16, 8] with float sums: of a result, lane l has rows
// l/4 and l/4 + 8 and columns 2·(l%4) and the next.

#define MAX_THREADS 256
#define STRIP 16

__device__ const float LOG2_E = 1.4426950408889634f, LN_2 = 0.6931471805599453f;

// c [16, 8] += a [16, 16]·b [16, 8]
__device__ inline void multiplyTensors(float *c, unsigned a0, unsigned a1, unsigned a2, unsigned a3, unsigned b0,
                                       unsigned b1) {
  asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
               "{%0, %1, %2, %3};"
               : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
               : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
}
// Four [8, 8] matrices from shared memory in the layout of tensor cores; lane 8·i + j has the address of row j of matrix i.
__device__ inline void loadMatrices(unsigned *x, const bf16 *row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(x[0]), "=r"(x[1]), "=r"(x[2]), "=r"(x[3])
               : "r"((unsigned)__cvta_generic_to_shared(row))
               : "memory");
}
// The same, each transposed.
__device__ inline void loadTransposed(unsigned *x, const bf16 *row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(x[0]), "=r"(x[1]), "=r"(x[2]), "=r"(x[3])
               : "r"((unsigned)__cvta_generic_to_shared(row))
               : "memory");
}
// Starts a copy of 16 bytes to shared memory; awaitCopies() waits for it.
__device__ inline void copyAsync(bf16 *to, const bf16 *from) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"((unsigned)__cvta_generic_to_shared(to)), "l"(from)
               : "memory");
}
__device__ inline void awaitCopies() { asm volatile("cp.async.wait_all;" ::: "memory"); }

// One head of one sequence. Its rows in shared memory have 8 unused elements between them, so that no two of eight rows have
// bank conflicts.
template <int K> struct Short {
  static const int pitch = K + 8;
  int n, heads, batch, head, strips, lane, warp, warps;
  __device__ Short(int n, int heads)
      : n(n), heads(heads), batch(blockIdx.x / heads), head(blockIdx.x % heads), strips((n + STRIP - 1) / STRIP),
        lane(threadIdx.x % WARP), warp(threadIdx.x / WARP), warps(blockDim.x / WARP) {}
  __device__ int rows() const { return strips * STRIP; }
  __device__ long long token(int t) const { return (long long)batch * n + t; }
  __device__ long long packed(int t, int which) const { return ((token(t) * 3 + which) * heads + head) * K; }
  __device__ long long merged(int t) const { return (token(t) * heads + head) * K; }
  __device__ long long scalar(int t) const { return ((long long)batch * heads + head) * n + t; }
  __device__ const float *angles(const float *table, const int *positions, int t) const {
    return table + (long long)(positions != 0 ? positions[token(t)] : t) * K;
  }
  // This lane's address for loading 16 rows and columns from (row, column): two matrices below each other, then those to the
  // right.
  __device__ const bf16 *tile(const bf16 *x, int row, int column) const {
    return x + (row + lane % STRIP) * pitch + column + lane / STRIP * 8;
  }
  // The strip of this warp in a round, in alternating order, as later strips have more work. May be beyond the last.
  __device__ int strip(int round) const { return round * warps + (round % 2 == 0 ? warp : warps - 1 - warp); }
};

// Starts to copy the rows of q, k or v, or of a merged tensor (which = 3), to shared memory; 0 beyond the last one.
template <int K> __device__ inline void copyRows(const Short<K> &h, const bf16 *x, int which, bf16 *to) {
  for (int i = threadIdx.x; i < h.rows() * (K / 8); i += blockDim.x) {
    int row = i / (K / 8), column = i % (K / 8) * 8;
    bf16 *place = to + row * h.pitch + column;
    if (row < h.n) copyAsync(place, x + (which == 3 ? h.merged(row) : h.packed(row, which)) + column);
    else *(uint4 *)place = make_uint4(0, 0, 0, 0);
  }
}

// c [16, 16] = a strip's rows of a, in registers, times those of x from `row` on, transposed.
template <int K>
__device__ inline void multiplyRows(const Short<K> &h, float (*c)[4], const unsigned (*a)[4], const bf16 *x, int row) {
#pragma unroll
  for (int j = 0; j < 2; j++) c[j][0] = c[j][1] = c[j][2] = c[j][3] = 0.0f;
#pragma unroll
  for (int i = 0; i < K / 16; i++) {
    unsigned b[4];
    loadMatrices(b, h.tile(x, row, i * 16));
    multiplyTensors(c[0], a[i][0], a[i][1], a[i][2], a[i][3], b[0], b[2]);
    multiplyTensors(c[1], a[i][0], a[i][1], a[i][2], a[i][3], b[1], b[3]);
  }
}

// sum [16, K] += c [16, 16], rounded, times the rows of x from `row` on.
template <int K>
__device__ inline void addProduct(const Short<K> &h, float (*sum)[4], const float (*c)[4], const bf16 *x, int row) {
  unsigned a0 = packBf16(c[0][0], c[0][1]), a1 = packBf16(c[0][2], c[0][3]);
  unsigned a2 = packBf16(c[1][0], c[1][1]), a3 = packBf16(c[1][2], c[1][3]);
#pragma unroll
  for (int i = 0; i < K / 16; i++) {
    unsigned b[4];
    loadTransposed(b, h.tile(x, row, i * 16));
    multiplyTensors(sum[2 * i], a0, a1, a2, a3, b[0], b[1]);
    multiplyTensors(sum[2 * i + 1], a0, a1, a2, a3, b[2], b[3]);
  }
}

template <int K> __device__ inline void loadStrip(const Short<K> &h, unsigned (*a)[4], const bf16 *x, int strip) {
#pragma unroll
  for (int i = 0; i < K / 16; i++) loadMatrices(a[i], h.tile(x, strip * STRIP, i * 16));
}

// The sum, and the maximum, over the four lanes of a row.
__device__ inline float quadSum(float x) {
  x += __shfl_xor_sync(FULL, x, 1);
  return x + __shfl_xor_sync(FULL, x, 2);
}
__device__ inline float quadMax(float x) {
  x = fmaxf(x, __shfl_xor_sync(FULL, x, 1));
  return fmaxf(x, __shfl_xor_sync(FULL, x, 2));
}

// Transposes x[0..3] among four lanes: lane t gets x[t] of each, so eight columns of one tile for two columns of four tiles.
__device__ inline void transposeQuad(unsigned *x, int lane) {
#pragma unroll
  for (int i = 0; i < 4; i += 2) {
    bool odd = lane & 1;
    unsigned other = __shfl_xor_sync(FULL, odd ? x[i] : x[i + 1], 1);
    if (odd) x[i] = other;
    else x[i + 1] = other;
  }
#pragma unroll
  for (int i = 0; i < 2; i++) {
    bool high = lane & 2;
    unsigned other = __shfl_xor_sync(FULL, high ? x[i] : x[i + 2], 2);
    if (high) x[i] = other;
    else x[i + 2] = other;
  }
}

// Stores half of a strip (rows l/4, or those 8 below) as bf16. `row` is the destination of this lane's row; not written unless
// `inside`.
template <int K> __device__ inline void storeHalf(const float (*x)[4], int half, bf16 *row, bool inside, int lane) {
#pragma unroll
  for (int i = 0; i < K / 8; i += 4) {
    unsigned words[4];
#pragma unroll
    for (int j = 0; j < 4; j++) words[j] = packBf16(x[i + j][2 * half], x[i + j][2 * half + 1]);
    transposeQuad(words, lane);
    if (inside) *(uint4 *)(row + (i + lane % 4) * 8) = make_uint4(words[0], words[1], words[2], words[3]);
  }
}

// Rotates q and k in shared memory, and stores them to qkv for the backward pass.
template <int K>
__device__ inline void rotateRows(const Short<K> &h, bf16 *q, bf16 *k, bf16 *__restrict__ qkv,
                                const float *__restrict__ table, const int *__restrict__ positions) {
#pragma unroll 2
  for (int i = threadIdx.x; i < h.n * (K / 16); i += blockDim.x) {
    int row = i / (K / 16), column = i % (K / 16) * 8;
    const float *angles = h.angles(table, positions, row) + column;
    float cosine[8], sine[8];
    load<8>(angles, cosine);
    load<8>(angles + K / 2, sine);
#pragma unroll
    for (int which = 0; which < 2; which++) {
      bf16 *first = (which == 0 ? q : k) + row * h.pitch + column, *stored = qkv + h.packed(row, which) + column;
      float a[8], b[8];
      load<8>(first, a);
      load<8>(first + K / 2, b);
#pragma unroll
      for (int j = 0; j < 8; j++) {
        float x = a[j], y = b[j];
        a[j] = x * cosine[j] - y * sine[j];
        b[j] = y * cosine[j] + x * sine[j];
      }
      store<8>(first, a);
      store<8>(first + K / 2, b);
      store<8>(stored, a);
      store<8>(stored + K / 2, b);
    }
  }
}

// Reads qkv, table and positions; writes out, logSumExp and the rotated q and k of qkv. Shared memory: q, k and v.
template <int K>
__device__ void attendShort(bf16 *qkv, const float *table, const int *positions, bf16 *out, float *logSumExp, int n,
                            int heads, float scale) {
  extern __shared__ uint4 shared[];
  Short<K> h(n, heads);
  bf16 *q = (bf16 *)shared, *k = q + h.rows() * h.pitch, *v = k + h.rows() * h.pitch;
  copyRows(h, qkv, 0, q);
  copyRows(h, qkv, 1, k);
  copyRows(h, qkv, 2, v);
  awaitCopies();
  __syncthreads();
  rotateRows(h, q, k, qkv, table, positions);
  __syncthreads();
  int row = h.lane / 4, column = h.lane % 4 * 2;
  for (int round = 0; round * h.warps < h.strips; round++) {
    int strip = h.strip(round);
    if (strip >= h.strips) continue;
    unsigned query[K / 16][4];
    loadStrip(h, query, q, strip);
    float sum[K / 8][4], top[2] = {NEGATIVE_INFINITY, NEGATIVE_INFINITY}, total[2] = {0.0f, 0.0f};
#pragma unroll
    for (int i = 0; i < K / 8; i++) sum[i][0] = sum[i][1] = sum[i][2] = sum[i][3] = 0.0f;
    for (int keys = 0; keys <= strip; keys++) {
      float weights[2][4]; // first the scores, times log2(e)
      multiplyRows(h, weights, query, k, keys * STRIP);
#pragma unroll
      for (int j = 0; j < 2; j++)
#pragma unroll
        for (int e = 0; e < 4; e++) {
          bool visible = keys < strip || j * 8 + column + e % 2 <= row + e / 2 * 8;
          weights[j][e] = visible ? weights[j][e] * (scale * LOG2_E) : NEGATIVE_INFINITY;
        }
#pragma unroll
      for (int half = 0; half < 2; half++) {
        float best = fmaxf(fmaxf(weights[0][2 * half], weights[0][2 * half + 1]),
                           fmaxf(weights[1][2 * half], weights[1][2 * half + 1]));
        best = fmaxf(top[half], quadMax(best)); // finite: key 0 is visible to every query
        float shrink = exp2f(top[half] - best);
        top[half] = best;
        total[half] *= shrink;
#pragma unroll
        for (int e = 2 * half; e < 2 * half + 2; e++) {
#pragma unroll
          for (int j = 0; j < 2; j++) total[half] += weights[j][e] = exp2f(weights[j][e] - best);
#pragma unroll
          for (int i = 0; i < K / 8; i++) sum[i][e] *= shrink;
        }
      }
      addProduct(h, sum, weights, v, keys * STRIP);
    }
#pragma unroll
    for (int half = 0; half < 2; half++) {
      int t = strip * STRIP + row + half * 8;
      float all = quadSum(total[half]), inverse = 1.0f / all;
#pragma unroll
      for (int i = 0; i < K / 8; i++) {
        sum[i][2 * half] *= inverse;
        sum[i][2 * half + 1] *= inverse;
      }
      storeHalf<K>(sum, half, out + h.merged(t), t < n, h.lane);
      if (t < n && column == 0) logSumExp[h.scalar(t)] = top[half] * LN_2 + logf(all);
    }
  }
}

// Scales a strip's gradients, rotates them back and stores them as rows of dqkv.
template <int K>
__device__ inline void storeRotatedBack(const Short<K> &h, float (*x)[4], int strip, int which, float scale, bf16 *dqkv,
                                       const float *table, const int *positions) {
#pragma unroll
  for (int half = 0; half < 2; half++) {
    int t = strip * STRIP + h.lane / 4 + half * 8;
    const float *angles = h.angles(table, positions, min(t, h.n - 1)) + h.lane % 4 * 2;
#pragma unroll
    for (int i = 0; i < K / 16; i++) {
      float2 cosine = *(const float2 *)(angles + i * 8), sine = *(const float2 *)(angles + i * 8 + K / 2);
      float *first = x[i] + 2 * half, *second = x[i + K / 16] + 2 * half;
      float a = first[0] * scale, b = second[0] * scale, c = first[1] * scale, d = second[1] * scale;
      first[0] = a * cosine.x + b * sine.x;
      second[0] = b * cosine.x - a * sine.x;
      first[1] = c * cosine.y + d * sine.y;
      second[1] = d * cosine.y - c * sine.y;
    }
    storeHalf<K>(x, half, dqkv + h.packed(t, which), t < h.n, h.lane);
  }
}

// With delta = Σ dout∘out of a row: dv = Pᵀ·dout, dS = P∘(dout·vᵀ - delta), dq = scale·dS·k and dk = scale·dSᵀ·q, both rotated
// back. A warp computes dk and dv of its strips of keys, then dq of its strips of queries: P is computed twice, but no sums
// cross warps. Reads qkv, with q and k rotated, table, positions, out, logSumExp and dout; writes dqkv. Shared memory: q, k, v,
// dout, then logSumExp and delta of each row.
template <int K>
__device__ void attendShortGrad(const bf16 *qkv, const float *table, const int *positions, const bf16 *out,
                                const float *logSumExp, const bf16 *dout, bf16 *dqkv, int n, int heads, float scale) {
  extern __shared__ uint4 shared[];
  Short<K> h(n, heads);
  int size = h.rows() * h.pitch;
  bf16 *q = (bf16 *)shared, *k = q + size, *v = k + size, *d = v + size;
  float *tops = (float *)(d + size), *deltas = tops + h.rows(); // tops: logSumExp, times log2(e)
  copyRows(h, qkv, 0, q);
  copyRows(h, qkv, 1, k);
  copyRows(h, qkv, 2, v);
  copyRows(h, dout, 3, d);
  awaitCopies();
  __syncthreads();
#pragma unroll 4
  for (int i = threadIdx.x; i < h.rows() * (K / 8); i += blockDim.x) { // whole warps, as there are at least 16 rows
    int t = i / (K / 8), column = i % (K / 8) * 8;
    float x[8], y[8], sum = 0.0f;
    load<8>(d + t * h.pitch + column, x);
    load<8>(out + h.merged(min(t, n - 1)) + column, y); // beyond the end dout is 0
#pragma unroll
    for (int j = 0; j < 8; j++) sum += x[j] * y[j];
#pragma unroll
    for (int offset = K / 16; offset > 0; offset /= 2) sum += __shfl_xor_sync(FULL, sum, offset);
    if (column > 0) continue;
    deltas[t] = sum;
    tops[t] = t < n ? logSumExp[h.scalar(t)] * LOG2_E : -NEGATIVE_INFINITY; // beyond the end weights are 0
  }
  __syncthreads();
  int row = h.lane / 4, column = h.lane % 4 * 2;
  float log2Scale = scale * LOG2_E;

  for (int round = 0; round * h.warps < h.strips; round++) {
    int strip = h.strip(round);
    if (strip >= h.strips) continue;
    unsigned key[K / 16][4], value[K / 16][4];
    loadStrip(h, key, k, strip);
    loadStrip(h, value, v, strip);
    float dk[K / 8][4], dv[K / 8][4];
#pragma unroll
    for (int i = 0; i < K / 8; i++)
#pragma unroll
      for (int e = 0; e < 4; e++) dk[i][e] = dv[i][e] = 0.0f;
    for (int queries = strip; queries < h.strips; queries++) {
      float weights[2][4], slopes[2][4]; // of [keys, queries]
      multiplyRows(h, weights, key, q, queries * STRIP);
      multiplyRows(h, slopes, value, d, queries * STRIP);
#pragma unroll
      for (int j = 0; j < 2; j++) {
        float2 top = *(const float2 *)(tops + queries * STRIP + j * 8 + column);
        float2 delta = *(const float2 *)(deltas + queries * STRIP + j * 8 + column);
#pragma unroll
        for (int e = 0; e < 4; e++) {
          bool visible = queries > strip || row + e / 2 * 8 <= j * 8 + column + e % 2;
          weights[j][e] = visible ? exp2f(weights[j][e] * log2Scale - (e % 2 == 0 ? top.x : top.y)) : 0.0f;
          slopes[j][e] = weights[j][e] * (slopes[j][e] - (e % 2 == 0 ? delta.x : delta.y));
        }
      }
      addProduct(h, dv, weights, d, queries * STRIP);
      addProduct(h, dk, slopes, q, queries * STRIP);
    }
    storeRotatedBack(h, dk, strip, 1, scale, dqkv, table, positions);
#pragma unroll
    for (int half = 0; half < 2; half++) {
      int t = strip * STRIP + row + half * 8;
      storeHalf<K>(dv, half, dqkv + h.packed(t, 2), t < n, h.lane);
    }
  }

  for (int round = 0; round * h.warps < h.strips; round++) {
    int strip = h.strip(round);
    if (strip >= h.strips) continue;
    unsigned query[K / 16][4], slope[K / 16][4];
    loadStrip(h, query, q, strip);
    loadStrip(h, slope, d, strip);
    float dq[K / 8][4];
#pragma unroll
    for (int i = 0; i < K / 8; i++) dq[i][0] = dq[i][1] = dq[i][2] = dq[i][3] = 0.0f;
    for (int keys = 0; keys <= strip; keys++) {
      float weights[2][4], slopes[2][4]; // of [queries, keys]
      multiplyRows(h, weights, query, k, keys * STRIP);
      multiplyRows(h, slopes, slope, v, keys * STRIP);
#pragma unroll
      for (int e = 0; e < 4; e++) {
        int t = strip * STRIP + row + e / 2 * 8;
#pragma unroll
        for (int j = 0; j < 2; j++) {
          bool visible = keys < strip || j * 8 + column + e % 2 <= row + e / 2 * 8;
          float weight = visible ? exp2f(weights[j][e] * log2Scale - tops[t]) : 0.0f;
          slopes[j][e] = weight * (slopes[j][e] - deltas[t]);
        }
      }
      addProduct(h, dq, slopes, k, keys * STRIP);
    }
    storeRotatedBack(h, dq, strip, 0, scale, dqkv, table, positions);
  }
}

#define SHORT_ATTENTION(K)                                                                                            \
  extern "C" __global__ void __launch_bounds__(MAX_THREADS)                                                           \
      shortAttention##K(bf16 *qkv, const float *table, const int *positions, bf16 *out, float *logSumExp, int n,      \
                        int heads, float scale) {                                                                     \
    attendShort<K>(qkv, table, positions, out, logSumExp, n, heads, scale);                                           \
  }                                                                                                                   \
  extern "C" __global__ void __launch_bounds__(MAX_THREADS)                                                           \
      shortAttentionGrad##K(const bf16 *qkv, const float *table, const int *positions, const bf16 *out,               \
                            const float *logSumExp, const bf16 *dout, bf16 *dqkv, int n, int heads, float scale) {    \
    attendShortGrad<K>(qkv, table, positions, out, logSumExp, dout, dqkv, n, heads, scale);                           \
  }
SHORT_ATTENTION(64)
SHORT_ATTENTION(128)
