// Experts by token choice: the router's logits, the most probable choice, the dispatch of tokens to slots in order, the balance
// loss, and the gradients of these. All in float32 but the residual stream.
// Choices are the experts, then the no-ops; `tokens` is B·n. x [B, n, width]; w [choices, width]; logits and probabilities
// [B, n, choices]; choice and gate [B, n].

// Choices that a thread or a lane sums at once.
#define TILE 8

// logits[token, i] = x[token]·w[i]. One warp per token; grid: tokens / warps of a block.
template <int V>
__device__ void dotRows(const activation *x, const float *w, float *logits, int tokens, int width, int choices) {
  int token = blockIdx.x * (blockDim.x / WARP) + threadIdx.x / WARP, lane = threadIdx.x % WARP;
  if (token >= tokens) return;
  const activation *row = x + (long long)token * width;
  for (int first = 0; first < choices; first += TILE) {
    float sums[TILE];
#pragma unroll
    for (int e = 0; e < TILE; e++) sums[e] = 0.0f;
    for (int i = lane * V; i < width; i += WARP * V) {
      float a[V], b[V];
      load<V>(row + i, a);
#pragma unroll
      for (int e = 0; e < TILE; e++) {
        if (first + e >= choices) break;
        load<V>(w + (long long)(first + e) * width + i, b);
#pragma unroll
        for (int j = 0; j < V; j++) sums[e] += a[j] * b[j];
      }
    }
#pragma unroll
    for (int e = 0; e < TILE; e++) {
      float sum = warpSum(sums[e]);
      if (lane == 0 && first + e < choices) logits[(long long)token * choices + first + e] = sum;
    }
  }
}

// dx[token] = Σ_i dlogits[token, i]·w[i], added to dx if accumulate is 1. Grid as above.
template <int V>
__device__ void sumRowsOf(const float *dlogits, const float *w, activation *dx, int tokens, int width, int choices,
                          int accumulate) {
  int token = blockIdx.x * (blockDim.x / WARP) + threadIdx.x / WARP, lane = threadIdx.x % WARP;
  if (token >= tokens) return;
  activation *row = dx + (long long)token * width;
  const float *d = dlogits + (long long)token * choices;
  for (int i = lane * V; i < width; i += WARP * V) {
    float a[V], b[V];
#pragma unroll
    for (int j = 0; j < V; j++) a[j] = 0.0f;
    if (accumulate) load<V>(row + i, a);
    for (int e = 0; e < choices; e++) {
      load<V>(w + (long long)e * width + i, b);
#pragma unroll
      for (int j = 0; j < V; j++) a[j] += d[e] * b[j];
    }
    store<V>(row + i, a);
  }
}

#define EXPERT_LOGITS(V)                                                                                              \
  extern "C" __global__ void expertLogits##V(const activation *x, const float *w, float *logits, int tokens,          \
                                             int width, int choices) {                                                \
    dotRows<V>(x, w, logits, tokens, width, choices);                                                                 \
  }                                                                                                                   \
  extern "C" __global__ void expertLogitsGrad##V(const float *dlogits, const float *w, activation *dx, int tokens,    \
                                                 int width, int choices, int accumulate) {                            \
    sumRowsOf<V>(dlogits, w, dx, tokens, width, choices, accumulate);                                                 \
  }
FOR_EACH_WIDTH(EXPERT_LOGITS)

// partials[chunk, i, column] = Σ over the chunk's tokens of dlogits[token, i]·x[token, column]; sums.cu adds the chunks up.
// Block: 32 columns × 8 tokens at a time; grid: (columns / 32, chunks, choices / TILE).
extern "C" __global__ void expertWeightPartials(const float *dlogits, const activation *x, float *partials, int tokens,
                                                int width, int choices, int tokensOfChunk) {
  __shared__ float tile[TILE][8][WARP];
  int lane = threadIdx.x % WARP, group = threadIdx.x / WARP, column = blockIdx.x * WARP + lane;
  int first = blockIdx.z * TILE, start = blockIdx.y * tokensOfChunk, end = min(tokens, start + tokensOfChunk);
  float sums[TILE];
#pragma unroll
  for (int e = 0; e < TILE; e++) sums[e] = 0.0f;
  for (int token = start + group; token < end; token += 8) {
    float a = column < width ? toFloat(x[(long long)token * width + column]) : 0.0f;
    const float *d = dlogits + (long long)token * choices + first;
#pragma unroll
    for (int e = 0; e < TILE; e++)
      if (first + e < choices) sums[e] += d[e] * a;
  }
#pragma unroll
  for (int e = 0; e < TILE; e++) tile[e][group][lane] = sums[e];
  __syncthreads();
  // Each of the 8 groups adds up one choice of the tile.
  if (column >= width || first + group >= choices) return;
  float sum = 0.0f;
  for (int other = 0; other < 8; other++) sum += tile[group][other][lane];
  partials[((long long)blockIdx.y * choices + first + group) * width + column] = sum;
}

// probabilities = softmax(logits); choice: the largest, ties to the lower; gate: its probability. One thread per token.
extern "C" __global__ void top1Expert(const float *logits, float *probabilities, float *gate, int *choice, int tokens,
                                        int choices) {
  int token = blockIdx.x * blockDim.x + threadIdx.x;
  if (token >= tokens) return;
  const float *x = logits + (long long)token * choices;
  float *p = probabilities + (long long)token * choices;
  int best = 0;
  float top = x[0], total = 0.0f;
  for (int i = 1; i < choices; i++)
    if (x[i] > top) {
      top = x[i];
      best = i;
    }
  for (int i = 0; i < choices; i++) total += expf(x[i] - top);
  for (int i = 0; i < choices; i++) p[i] = expf(x[i] - top) / total;
  gate[token] = p[best];
  choice[token] = best;
}

// dlogits[i] = dgate·p_c·((i = c) - p_i), c the token's choice. One thread per token.
extern "C" __global__ void top1ExpertGrad(const float *probabilities, const int *choice, const float *dgate,
                                            float *dlogits, int tokens, int choices) {
  int token = blockIdx.x * blockDim.x + threadIdx.x;
  if (token >= tokens) return;
  const float *p = probabilities + (long long)token * choices;
  int chosen = choice[token];
  float scale = dgate[token] * p[chosen];
  for (int i = 0; i < choices; i++)
    dlogits[(long long)token * choices + i] = scale * ((i == chosen ? 1.0f : 0.0f) - p[i]);
}

#define AHEAD 16 // times 32 tokens

// Assigns the tokens of a sequence that chose an expert to its slots, in order, or counts those that chose a no-op. Reads choice;
// writes indices [experts, sequences, slots], B·n for an empty slot, and counts [choices + experts, sequences]: tokens that
// made each choice, then tokens that each expert processes. One warp for each sequence and choice, which reads the sequence
// once; grid: sequences·choices / warps of a block.
extern "C" __global__ void dispatchTokens(const int *choice, int *indices, float *counts, int sequences, int length,
                                       int experts, int choices, int slots) {
  int job = blockIdx.x * (blockDim.x / WARP) + threadIdx.x / WARP, lane = threadIdx.x % WARP;
  if (job >= sequences * choices) return;
  int own = job / sequences, sequence = job % sequences, chosen = 0;
  long long start = (long long)sequence * length;
  int *places = indices + (long long)job * slots; // the order of jobs: by expert, then by sequence
  for (int from = 0; from < length; from += AHEAD * WARP) {
    int made[AHEAD]; // loaded together, so that the loop below waits once
#pragma unroll
    for (int j = 0; j < AHEAD; j++) {
      int t = from + j * WARP + lane;
      made[j] = t < length ? choice[start + t] : -1;
    }
#pragma unroll
    for (int j = 0; j < AHEAD; j++) {
      bool mine = made[j] == own;
      unsigned all = __ballot_sync(FULL, mine);
      int rank = chosen + __popc(all & ((1u << lane) - 1));
      if (mine && own < experts && rank < slots) places[rank] = (int)(start + from + j * WARP + lane);
      chosen += __popc(all);
    }
  }
  if (own < experts)
    for (int slot = chosen + lane; slot < slots; slot += WARP) places[slot] = sequences * length;
  if (lane > 0) return;
  counts[own * sequences + sequence] = (float)chosen;
  if (own < experts) counts[(choices + own) * sequences + sequence] = (float)min(chosen, slots);
}

// sums[sequence, i] = Σ_t p[t, i]; losses[sequence] = m·Σ_i f_i·sums_i / Σ_i sums_i over the m = `balanced` first choices, with
// f_i = counts[i] / max(1, Σ counts) of the sequence. Reads probabilities and counts [.., sequences]. One block of 1024 threads
// per sequence: a thread sums the choices of a tile at once, then a warp each of them.
extern "C" __global__ void balanceLoss(const float *probabilities, const float *counts, float *losses, float *sums,
                                       int sequences, int length, int choices, int balanced) {
  __shared__ float parts[TILE][WARP];
  int sequence = blockIdx.x, lane = threadIdx.x % WARP, warp = threadIdx.x / WARP, warps = blockDim.x / WARP;
  const float *p = probabilities + (long long)sequence * length * choices;
  for (int first = 0; first < balanced; first += TILE) {
    float mass[TILE];
#pragma unroll
    for (int e = 0; e < TILE; e++) mass[e] = 0.0f;
    for (int t = threadIdx.x; t < length; t += blockDim.x) {
#pragma unroll
      for (int e = 0; e < TILE; e++)
        if (first + e < balanced) mass[e] += p[(long long)t * choices + first + e];
    }
    __syncthreads(); // the previous tile may still be read
#pragma unroll
    for (int e = 0; e < TILE; e++) {
      float sum = warpSum(mass[e]);
      if (lane == 0) parts[e][warp] = sum;
    }
    __syncthreads();
    if (warp < TILE) {
      float sum = warpSum(lane < warps ? parts[warp][lane] : 0.0f);
      if (lane == 0 && first + warp < balanced) sums[sequence * balanced + first + warp] = sum;
    }
  }
  __syncthreads(); // all sums are written
  float total = 0.0f, chosen = 0.0f, along = 0.0f;
  for (int i = threadIdx.x; i < balanced; i += blockDim.x) {
    float sum = sums[sequence * balanced + i], count = counts[i * sequences + sequence];
    total += sum;
    chosen += count;
    along += sum * count;
  }
  total = blockSum(total);
  chosen = blockSum(chosen);
  along = blockSum(along);
  if (threadIdx.x == 0) losses[sequence] = balanced * along / (total * fmaxf(1.0f, chosen));
}

// dlogits[t, i] = dloss·p_i·(g_i - Σ_j p_j·g_j) with S = sums, Z = Σ S and g_i = m·(f_i - Σ_j f_j·S_j/Z)/Z, 0 for i >= m.
// One thread per token.
extern "C" __global__ void balanceLossGrad(const float *probabilities, const float *counts, const float *sums,
                                           const float *dlosses, float *dlogits, int sequences, int length,
                                           int choices, int balanced) {
  int token = blockIdx.x * blockDim.x + threadIdx.x;
  if (token >= sequences * length) return;
  int sequence = token / length;
  const float *p = probabilities + (long long)token * choices, *mass = sums + sequence * balanced;
  float total = 0.0f, chosen = 0.0f, along = 0.0f, mean = 0.0f;
  for (int i = 0; i < balanced; i++) {
    float count = counts[i * sequences + sequence];
    total += mass[i];
    chosen += count;
    along += mass[i] * count;
  }
  chosen = fmaxf(1.0f, chosen);
  float middle = along / chosen / total, scale = dlosses[sequence] * balanced / total;
  for (int i = 0; i < balanced; i++) mean += p[i] * scale * (counts[i * sequences + sequence] / chosen - middle);
  for (int i = 0; i < choices; i++) {
    float slope = i < balanced ? scale * (counts[i * sequences + sequence] / chosen - middle) : 0.0f;
    dlogits[(long long)token * choices + i] = p[i] * (slope - mean);
  }
}
