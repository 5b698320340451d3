// A predictor behind its first product: logit = Σ w·gelu(before + bias) + bias2, and its gradients. P hidden values a
// token, a multiple of 8, at most 64·J: eight lanes take a token, 8 values each at a time.

#define LANES 8

// Of the eight lanes of a token: the sum, known to each.
__device__ inline float laneSum(float x) {
#pragma unroll
  for (int offset = LANES / 2; offset > 0; offset /= 2) x += __shfl_xor_sync(FULL, x, offset);
  return x;
}

// The hidden values i to i + 7 of a token and, where asked for, the slope there.
__device__ inline void hiddenOf(const Packed<8> &before, const float *bias, int i, float *hidden, float *slope) {
  float b[8];
  unpack<8>(before, hidden);
  load<8>(bias + i, b);
#pragma unroll
  for (int e = 0; e < 8; e++) {
    float x = hidden[e] + b[e];
    if (slope != 0) slope[e] = geluSlope(x);
    hidden[e] = geluOf(x);
  }
}

// Reads before [tokens, P], bias [P], weight [P], bias2 [1]; writes logits [tokens] in float32. Grid: tokens / 32.
extern "C" __global__ void hiddenLogits(const activation *before, const float *bias, const float *weight,
                                        const float *bias2, float *logits, int tokens, int P) {
  int token = (blockIdx.x * blockDim.x + threadIdx.x) / LANES, lane = threadIdx.x % LANES;
  float sum = 0.0f;
  for (int i = lane * 8; token < tokens && i < P; i += LANES * 8) {
    float hidden[8], w[8];
    hiddenOf(fetch<8>(before + (long long)token * P + i), bias, i, hidden, 0);
    load<8>(weight + i, w);
#pragma unroll
    for (int e = 0; e < 8; e++) sum += w[e] * hidden[e];
  }
  sum = laneSum(sum);
  if (lane == 0 && token < tokens) logits[token] = sum + *bias2;
}

// dbefore = dlogit·weight∘gelu'(before + bias); partials[block] = Σ over its tokens of [dbefore, dlogit·hidden, dlogit],
// 2·P + 1 numbers, always in the same order. A persistent grid of blocks of 256 threads, 32 tokens at a time.
template <int J>
__device__ void gradTokens(const float *dlogits, const activation *before, const float *bias, const float *weight,
                           activation *dbefore, float *partials, int tokens, int P) {
  __shared__ float columns[2 * 64 * J + 1];
  int lane = threadIdx.x % LANES, warp = threadIdx.x / WARP, warps = blockDim.x / WARP;
  float dbias[J][8], dweight[J][8], dbias2 = 0.0f;
#pragma unroll
  for (int j = 0; j < J; j++)
#pragma unroll
    for (int e = 0; e < 8; e++) dbias[j][e] = dweight[j][e] = 0.0f;
  int ofBlock = blockDim.x / LANES, stride = gridDim.x * ofBlock;
  float next;
  Packed<8> ahead[J];
  auto ask = [&](int token) { // for what a token needs, while the one before it is computed
    if (token >= tokens) return;
    next = dlogits[token];
#pragma unroll
    for (int j = 0; j < J; j++) {
      int i = (j * LANES + lane) * 8;
      if (i < P) ahead[j] = fetch<8>(before + (long long)token * P + i);
    }
  };
  int token = blockIdx.x * ofBlock + threadIdx.x / LANES;
  for (ask(token); token < tokens; token += stride) {
    float d = next;
    Packed<8> held[J];
#pragma unroll
    for (int j = 0; j < J; j++) held[j] = ahead[j];
    ask(token + stride);
    dbias2 += d;
#pragma unroll
    for (int j = 0; j < J; j++) {
      int i = (j * LANES + lane) * 8;
      if (i >= P) continue;
      float hidden[8], slope[8], w[8];
      hiddenOf(held[j], bias, i, hidden, slope);
      load<8>(weight + i, w);
#pragma unroll
      for (int e = 0; e < 8; e++) {
        dweight[j][e] += d * hidden[e];
        slope[e] *= d * w[e];
        dbias[j][e] += slope[e];
      }
      store<8>(dbefore + (long long)token * P + i, slope);
    }
  }
  // The four tokens of a warp, then one warp after the other.
#pragma unroll
  for (int j = 0; j < J; j++)
#pragma unroll
    for (int e = 0; e < 8; e++)
#pragma unroll
      for (int offset = WARP / 2; offset >= LANES; offset /= 2) {
        dbias[j][e] += __shfl_xor_sync(FULL, dbias[j][e], offset);
        dweight[j][e] += __shfl_xor_sync(FULL, dweight[j][e], offset);
      }
#pragma unroll
  for (int offset = WARP / 2; offset >= LANES; offset /= 2) dbias2 += __shfl_xor_sync(FULL, dbias2, offset);
  for (int turn = 0; turn < warps; turn++) {
    if (turn == warp && threadIdx.x % WARP < LANES) {
#pragma unroll
      for (int j = 0; j < J; j++) {
        int i = (j * LANES + lane) * 8;
        if (i >= P) continue;
#pragma unroll
        for (int e = 0; e < 8; e++) {
          columns[i + e] = (turn == 0 ? 0.0f : columns[i + e]) + dbias[j][e];
          columns[P + i + e] = (turn == 0 ? 0.0f : columns[P + i + e]) + dweight[j][e];
        }
      }
      if (lane == 0) columns[2 * P] = (turn == 0 ? 0.0f : columns[2 * P]) + dbias2;
    }
    __syncthreads();
  }
  for (int i = threadIdx.x; i <= 2 * P; i += blockDim.x) partials[(long long)blockIdx.x * (2 * P + 1) + i] = columns[i];
}

#define HIDDEN_GRAD(J)                                                                                                \
  extern "C" __global__ void __launch_bounds__(256)                                                                   \
      hiddenLogitsGrad##J(const float *dlogits, const activation *before, const float *bias, const float *weight,     \
                          activation *dbefore, float *partials, int tokens, int P) {                                  \
    gradTokens<J>(dlogits, before, bias, weight, dbefore, partials, tokens, P);                                       \
  }
HIDDEN_GRAD(1) HIDDEN_GRAD(2) HIDDEN_GRAD(4)
