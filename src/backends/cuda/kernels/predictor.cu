// The predictor after its first product: logit = Σ w·gelu(before + bias) + bias2, and its loss with all gradients.
// P hidden values per token, a multiple of 8, in the gradient at most 64·J: eight lanes per token, 8 values of a lane at a time.

#define LANES 8

// The sum over the eight lanes of a token, returned to each.
__device__ inline float laneSum(float x) {
#pragma unroll
  for (int offset = LANES / 2; offset > 0; offset /= 2) x += __shfl_xor_sync(FULL, x, offset);
  return x;
}

// The hidden values i to i + 7 of a token and, unless slope is null, gelu's slopes.
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
extern "C" __global__ void predictorLogits(const activation *before, const float *bias, const float *weight,
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

// The gradient of binary cross-entropy: with d = scale·(sigmoid(logit) - label), dbefore = d·weight∘gelu'(before + bias).
// Reads before, bias, weight, bias2 as above and labels [tokens]; writes dbefore and partials[block] = Σ over its tokens of
// [dbefore, d·hidden, d, inverseTokens if (logit > 0) = label], 2·P + 2 numbers, always in the same order.
// A persistent grid of blocks of 256 threads, 32 tokens at a time.
template <int J>
__device__ void lossGradOfTokens(const activation *before, const float *bias, const float *weight, const float *bias2,
                            const float *labels, activation *dbefore, float *partials, int tokens, int P, float scale,
                            float inverseTokens) {
  __shared__ float columns[2 * 64 * J + 2];
  int lane = threadIdx.x % LANES, warp = threadIdx.x / WARP, warps = blockDim.x / WARP;
  float dbias[J][8], dweight[J][8], dbias2 = 0.0f, correct = 0.0f, last = *bias2;
#pragma unroll
  for (int j = 0; j < J; j++)
#pragma unroll
    for (int e = 0; e < 8; e++) dbias[j][e] = dweight[j][e] = 0.0f;
  int ofBlock = blockDim.x / LANES, stride = gridDim.x * ofBlock;
  float next;
  Packed<8> ahead[J];
  auto prefetch = [&](int token) { // loads a token while the one before it is computed
    if (token >= tokens) return;
    next = labels[token];
#pragma unroll
    for (int j = 0; j < J; j++) {
      int i = (j * LANES + lane) * 8;
      if (i < P) ahead[j] = fetch<8>(before + (long long)token * P + i);
    }
  };
  // All lanes of a warp run the same iterations: the shuffles of laneSum need them.
  int token = blockIdx.x * ofBlock + threadIdx.x / LANES;
  prefetch(token);
  for (int first = blockIdx.x * ofBlock; first < tokens; first += stride, token += stride) {
    bool isToken = token < tokens;
    float label = isToken ? next : 0.0f, sum = 0.0f, hidden[J][8], slope[J][8], w[J][8];
#pragma unroll
    for (int j = 0; j < J; j++) {
      int i = (j * LANES + lane) * 8;
      if (!isToken || i >= P) continue;
      hiddenOf(ahead[j], bias, i, hidden[j], slope[j]);
      load<8>(weight + i, w[j]);
#pragma unroll
      for (int e = 0; e < 8; e++) sum += w[j][e] * hidden[j][e];
    }
    prefetch(token + stride);
    float logit = laneSum(sum) + last;
    if (!isToken) continue;
    float d = scale * (sigmoid(logit) - label);
    dbias2 += d;
    correct += (logit > 0.0f ? 1.0f : 0.0f) == label ? inverseTokens : 0.0f;
#pragma unroll
    for (int j = 0; j < J; j++) {
      int i = (j * LANES + lane) * 8;
      if (i >= P) continue;
#pragma unroll
      for (int e = 0; e < 8; e++) {
        dweight[j][e] += d * hidden[j][e];
        slope[j][e] *= d * w[j][e];
        dbias[j][e] += slope[j][e];
      }
      store<8>(dbefore + (long long)token * P + i, slope[j]);
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
  for (int offset = WARP / 2; offset >= LANES; offset /= 2) {
    dbias2 += __shfl_xor_sync(FULL, dbias2, offset);
    correct += __shfl_xor_sync(FULL, correct, offset);
  }
  for (int source = 0; source < warps; source++) {
    if (source == warp && threadIdx.x % WARP < LANES) {
#pragma unroll
      for (int j = 0; j < J; j++) {
        int i = (j * LANES + lane) * 8;
        if (i >= P) continue;
#pragma unroll
        for (int e = 0; e < 8; e++) {
          columns[i + e] = (source == 0 ? 0.0f : columns[i + e]) + dbias[j][e];
          columns[P + i + e] = (source == 0 ? 0.0f : columns[P + i + e]) + dweight[j][e];
        }
      }
      if (lane == 0) {
        columns[2 * P] = (source == 0 ? 0.0f : columns[2 * P]) + dbias2;
        columns[2 * P + 1] = (source == 0 ? 0.0f : columns[2 * P + 1]) + correct;
      }
    }
    __syncthreads();
  }
  for (int i = threadIdx.x; i < 2 * P + 2; i += blockDim.x) partials[(long long)blockIdx.x * (2 * P + 2) + i] = columns[i];
}

#define PREDICTOR_LOSS_GRAD(J)                                                                                        \
  extern "C" __global__ void __launch_bounds__(256)                                                                   \
      predictorLossGrad##J(const activation *before, const float *bias, const float *weight, const float *bias2,      \
                       const float *labels, activation *dbefore, float *partials, int tokens, int P, float scale,     \
                       float inverseTokens) {                                                                         \
    lossGradOfTokens<J>(before, bias, weight, bias2, labels, dbefore, partials, tokens, P, scale, inverseTokens);     \
  }
PREDICTOR_LOSS_GRAD(1) PREDICTOR_LOSS_GRAD(2) PREDICTOR_LOSS_GRAD(4)
