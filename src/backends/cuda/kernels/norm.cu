// RMSNorm: y = x·s·g with s = 1 / sqrt(mean(x²) + 1e-6), of x or of a residual sum, and its gradient.
// One warp for each row of `width` elements; lanes have the same columns in every row.

__device__ const float EPSILON = 1e-6f;

// Reads x [rows, width], branch or null, and gain [width]; writes y and inverseRms [rows] = s, and with a branch also
// sum = x + branch, of which y is then the norm. Grid: rows / warps of a block.
template <int V>
__device__ void normaliseRow(const activation *x, const activation *branch, const float *gain, activation *sum,
                             activation *y, float *inverseRms, int rows, int width) {
  int row = blockIdx.x * (blockDim.x / WARP) + threadIdx.x / WARP, lane = threadIdx.x % WARP;
  if (row >= rows) return;
  long long start = (long long)row * width;
  float squares = 0.0f;
  for (int i = lane * V; i < width; i += WARP * V) {
    float a[V];
    load<V>(x + start + i, a);
    if (branch != 0) {
      float b[V];
      load<V>(branch + start + i, b);
#pragma unroll
      for (int j = 0; j < V; j++) a[j] = rounded(a[j] + b[j]);
      store<V>(sum + start + i, a);
    }
#pragma unroll
    for (int j = 0; j < V; j++) squares += a[j] * a[j];
  }
  float s = 1.0f / sqrtf(warpSum(squares) / width + EPSILON); // rsqrtf has an error of two units in the last place
  if (lane == 0) inverseRms[row] = s;
  const activation *normalised = branch != 0 ? sum : x;
  for (int i = lane * V; i < width; i += WARP * V) {
    float a[V], g[V];
    load<V>(normalised + start + i, a); // from the L1 cache, after the load or store above
    load<V>(gain + i, g);
#pragma unroll
    for (int j = 0; j < V; j++) a[j] *= s * g[j];
    store<V>(y + start + i, a);
  }
}

#define NORMALISE(V)                                                                                                  \
  extern "C" __global__ void rmsNorm##V(const activation *x, const float *gain, activation *y, float *inverseRms,     \
                                        int rows, int width) {                                                        \
    normaliseRow<V>(x, 0, gain, 0, y, inverseRms, rows, width);                                                       \
  }                                                                                                                   \
  extern "C" __global__ void addRmsNorm##V(const activation *x, const activation *branch, const float *gain,          \
                                           activation *sum, activation *y, float *inverseRms, int rows, int width) {  \
    normaliseRow<V>(x, branch, gain, sum, y, inverseRms, rows, width);                                                \
  }
FOR_EACH_WIDTH(NORMALISE)

// With n = x·s: dx = s·(g·dy - n·mean(n·g·dy)), added to dx if accumulate is 1; partials[block] = Σ dy·n over the block's
// rows, [width], for the gain's gradient. Reads dy, x [rows, width], gain [width] and inverseRms [rows]; writes dx and
// partials. A persistent grid of any number of blocks: a warp strides over the rows and keeps its sums of the gain's gradient
// in registers, J groups of V columns of a lane; width is a multiple of V and at most J·V·32. All loads of a row are issued
// before the first use.
template <int V, int J>
__device__ void gradRows(const activation *dy, const activation *x, const float *gain, const float *inverseRms,
                         activation *dx, float *partials, int rows, int width, int accumulate) {
  extern __shared__ float columns[];
  int warp = threadIdx.x / WARP, lane = threadIdx.x % WARP, warps = blockDim.x / WARP;
  float dgain[J][V];
#pragma unroll
  for (int j = 0; j < J; j++)
#pragma unroll
    for (int e = 0; e < V; e++) dgain[j][e] = 0.0f;
  for (int row = blockIdx.x * warps + warp; row < rows; row += gridDim.x * warps) {
    long long start = (long long)row * width;
    Packed<V> xs[J], dys[J], gradAccum[J];
    float s = inverseRms[row], projection = 0.0f;
#pragma unroll
    for (int j = 0; j < J; j++) {
      int i = (j * WARP + lane) * V;
      if (i >= width) continue;
      xs[j] = fetch<V>(x + start + i);
      dys[j] = fetch<V>(dy + start + i);
    }
#pragma unroll
    for (int j = 0; j < J; j++) {
      int i = (j * WARP + lane) * V;
      if (accumulate && i < width) gradAccum[j] = fetch<V>(dx + start + i);
    }
#pragma unroll
    for (int j = 0; j < J; j++) {
      int i = (j * WARP + lane) * V;
      if (i >= width) continue;
      float n[V], d[V], g[V];
      unpack<V>(xs[j], n);
      unpack<V>(dys[j], d);
      load<V>(gain + i, g);
#pragma unroll
      for (int e = 0; e < V; e++) {
        n[e] *= s;
        dgain[j][e] += d[e] * n[e];
        projection += n[e] * d[e] * g[e];
      }
    }
    projection = warpSum(projection) / width;
#pragma unroll
    for (int j = 0; j < J; j++) {
      int i = (j * WARP + lane) * V;
      if (i >= width) continue;
      float n[V], d[V], g[V], before[V];
      unpack<V>(xs[j], n);
      unpack<V>(dys[j], d);
      load<V>(gain + i, g);
      if (accumulate) unpack<V>(gradAccum[j], before);
#pragma unroll
      for (int e = 0; e < V; e++)
        d[e] = s * (d[e] * g[e] - n[e] * s * projection) + (accumulate ? before[e] : 0.0f);
      store<V>(dx + start + i, d);
    }
  }
  sumOfWarps<V, J>(dgain, columns, partials + (long long)blockIdx.x * width, width);
}

// BLOCKS on a multiprocessor limit the registers of a thread.
#define GRAD(V, J, BLOCKS)                                                                                            \
  extern "C" __global__ void __launch_bounds__(256, BLOCKS)                                                           \
      rmsNormGrad##V##x##J(const activation *dy, const activation *x, const float *gain, const float *inverseRms,     \
                           activation *dx, float *partials, int rows, int width, int accumulate) {                    \
    gradRows<V, J>(dy, x, gain, inverseRms, dx, partials, rows, width, accumulate);                                   \
  }
GRAD(2, 1, 4) GRAD(2, 3, 4) GRAD(2, 5, 4) GRAD(2, 7, 4)
GRAD(8, 1, 4) GRAD(8, 2, 3) GRAD(8, 3, 2) GRAD(8, 4, 2) GRAD(8, 8, 1)

// Only dx, for any width. Grid: rows / warps of a block.
extern "C" __global__ void rmsNormGradAnyWidth(const activation *dy, const activation *x, const float *gain,
                                               const float *inverseRms, activation *dx, int rows, int width,
                                               int accumulate) {
  int row = blockIdx.x * (blockDim.x / WARP) + threadIdx.x / WARP, lane = threadIdx.x % WARP;
  if (row >= rows) return;
  long long start = (long long)row * width;
  float s = inverseRms[row], projection = 0.0f;
  for (int i = lane; i < width; i += WARP) projection += toFloat(x[start + i]) * s * toFloat(dy[start + i]) * gain[i];
  projection = warpSum(projection) / width;
  for (int i = lane; i < width; i += WARP) {
    float n = toFloat(x[start + i]) * s;
    float d = s * (toFloat(dy[start + i]) * gain[i] - n * projection);
    assign(dx[start + i], d + (accumulate ? toFloat(dx[start + i]) : 0.0f));
  }
}
