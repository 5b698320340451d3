// Losses of logits [rows, width], rows `pitch` elements apart, of which those past the width do not count: cross-entropy against one target per row, loss = log Σ exp(x) - x[target], and its gradient;
// entropy; the gradient of binary cross-entropy. Losses, log-sum-exps and entropies are float32 [rows].

// The maximum and Σ exp(x - maximum) of the elements so far, of a thread, warp or block.
struct Softmax {
  float top, sum;
};
__device__ inline Softmax merge(Softmax a, Softmax b) {
  float top = fmaxf(a.top, b.top);
  if (top == NEGATIVE_INFINITY) return a;
  return {top, a.sum * expf(a.top - top) + b.sum * expf(b.top - top)};
}
__device__ inline Softmax warpMerge(Softmax s) {
#pragma unroll
  for (int offset = WARP / 2; offset > 0; offset /= 2) {
    Softmax other = {__shfl_xor_sync(FULL, s.top, offset), __shfl_xor_sync(FULL, s.sum, offset)};
    s = threadIdx.x & offset ? merge(other, s) : merge(s, other); // the same order in every lane
  }
  return s;
}

// One pass over a row by `threads` threads, of which this is number `thread`.
template <int V> __device__ inline Softmax rowSoftmax(const activation *row, int width, int thread, int threads) {
  Softmax s = {NEGATIVE_INFINITY, 0.0f};
  for (int i = thread * V; i < width; i += threads * V) {
    float x[V];
    load<V>(row + i, x); // a padded row can be read past its width
#pragma unroll
    for (int j = 0; j < V; j++)
      if (i + j >= width) x[j] = NEGATIVE_INFINITY;
    float top = s.top;
#pragma unroll
    for (int j = 0; j < V; j++) top = fmaxf(top, x[j]);
    if (top == NEGATIVE_INFINITY) continue;
    float sum = s.sum * expf(s.top - top);
#pragma unroll
    for (int j = 0; j < V; j++) sum += expf(x[j] - top);
    s = {top, sum};
  }
  return s;
}

__device__ inline void writeLoss(Softmax s, const activation *row, int target, float *loss, float *logSumExp) {
  float total = s.top + logf(s.sum);
  *logSumExp = total;
  *loss = total - toFloat(row[target]);
}

#define CROSS_ENTROPY(V)                                                                                              \
  /* Writes losses and logSumExp. One warp a row; grid: rows / warps of a block. */                                   \
  extern "C" __global__ void crossEntropyWarp##V(const activation *logits, const int *targets, float *losses,         \
                                                 float *logSumExp, int rows, int width, int pitch) {                  \
    int row = blockIdx.x * (blockDim.x / WARP) + threadIdx.x / WARP, lane = threadIdx.x % WARP;                       \
    if (row >= rows) return;                                                                                          \
    const activation *x = logits + (long long)row * pitch;                                                            \
    Softmax s = warpMerge(rowSoftmax<V>(x, width, lane, WARP));                                                       \
    if (lane == 0) writeLoss(s, x, targets[row], losses + row, logSumExp + row);                                      \
  }                                                                                                                   \
  /* The same for wide rows. One block a row; grid: rows. */                                                          \
  extern "C" __global__ void crossEntropyBlock##V(const activation *logits, const int *targets, float *losses,        \
                                                  float *logSumExp, int rows, int width, int pitch) {                 \
    __shared__ Softmax parts[WARP];                                                                                   \
    int row = blockIdx.x, lane = threadIdx.x % WARP, warps = blockDim.x / WARP;                                       \
    const activation *x = logits + (long long)row * pitch;                                                            \
    Softmax s = warpMerge(rowSoftmax<V>(x, width, threadIdx.x, blockDim.x));                                          \
    if (lane == 0) parts[threadIdx.x / WARP] = s;                                                                     \
    __syncthreads();                                                                                                  \
    if (threadIdx.x >= WARP) return;                                                                                  \
    Softmax none = {NEGATIVE_INFINITY, 0.0f};                                                                         \
    s = warpMerge(lane < warps ? parts[lane] : none);                                                                 \
    if (lane == 0) writeLoss(s, x, targets[row], losses + row, logSumExp + row);                                      \
  }                                                                                                                   \
  /* dlogits = (softmax - onehot)·dloss, 0 past the width; dlogits may be the logits. Grid: (pitch / (threads·V), rows). */ \
  extern "C" __global__ void crossEntropyGrad##V(const activation *logits, const int *targets,                        \
                                                 const float *logSumExp, const float *dlosses, activation *dlogits,   \
                                                 int rows, int width, int pitch) {                                    \
    for (int row = blockIdx.y; row < rows; row += gridDim.y) {                                                        \
      int i = (blockIdx.x * blockDim.x + threadIdx.x) * V;                                                            \
      if (i >= pitch) return;                                                                                         \
      long long at = (long long)row * pitch + i;                                                                      \
      int target = targets[row] - i;                                                                                  \
      float total = logSumExp[row], d = dlosses[row], x[V];                                                           \
      load<V>(logits + at, x);                                                                                        \
      _Pragma("unroll") for (int j = 0; j < V; j++)                                                                   \
        x[j] = i + j < width ? (expf(x[j] - total) - (j == target ? 1.0f : 0.0f)) * d : 0.0f;                         \
      store<V>(dlogits + at, x);                                                                                      \
    }                                                                                                                 \
  }
FOR_EACH_WIDTH(CROSS_ENTROPY)

// entropies[row] = Σ softmax(x)·(log Σ exp(x) - x). One block per row, in two passes; grid: rows.
extern "C" __global__ void entropy(const activation *logits, float *entropies, int width, int pitch) {
  __shared__ float tops[WARP];
  const activation *row = logits + (long long)blockIdx.x * pitch;
  float top = NEGATIVE_INFINITY, sum = 0.0f, weighted = 0.0f;
  for (int i = threadIdx.x; i < width; i += blockDim.x) top = fmaxf(top, toFloat(row[i]));
  top = warpMax(top);
  if (threadIdx.x % WARP == 0) tops[threadIdx.x / WARP] = top;
  __syncthreads();
  top = warpMax(threadIdx.x % WARP < blockDim.x / WARP ? tops[threadIdx.x % WARP] : NEGATIVE_INFINITY);
  for (int i = threadIdx.x; i < width; i += blockDim.x) {
    float shifted = toFloat(row[i]) - top, weight = expf(shifted);
    sum += weight;
    weighted += weight * shifted;
  }
  sum = blockSum(sum);
  weighted = blockSum(weighted);
  if (threadIdx.x == 0) entropies[blockIdx.x] = logf(sum) - weighted / sum;
}

// dlogits = weight·(sigmoid(logits) - labels), n elements of float32. One thread per element.
extern "C" __global__ void binaryCrossEntropyGrad(const float *logits, const float *labels, float *dlogits,
                                                  float weight, long long n) {
  long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) dlogits[i] = weight * (sigmoid(logits[i]) - labels[i]);
}
