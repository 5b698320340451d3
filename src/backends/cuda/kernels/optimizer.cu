// AdamW over all parameters in one launch, and the global norm of their gradients in two launches. The kernels read a table
// of parameters. Grid: a block of 256 threads for each ELEMENTS_PER_BLOCK elements of a parameter, as in optimizer.ts.

// One parameter, float32. weights: its bf16 copy for products, or null.
struct Parameter {
  float *value;
  const float *grad;
  float *mean;
  float *variance;
  bf16 *weights;
  long long size;
  float decay;
  float rate;     // factor of the learning rate
  int firstBlock; // the first of its blocks in the grid
  int unused;     // makes the size a multiple of 8, as in optimizer.ts
};

#define ELEMENTS_PER_BLOCK 4096 // elements of one parameter that a block of 256 threads processes
#define ELEMENTS_AT_ONCE 1024   // elements at a time: four per thread

// Elements i to i + 3 of a parameter, i a multiple of four; elements beyond its end are not accessed.
__device__ inline void loadFour(const float *from, long long i, long long size, float *x) {
  if (i + 4 <= size) {
    float4 a = *(const float4 *)(from + i);
    x[0] = a.x; x[1] = a.y; x[2] = a.z; x[3] = a.w;
  } else {
#pragma unroll
    for (int e = 0; e < 4; e++)
      if (i + e < size) x[e] = from[i + e];
  }
}
__device__ inline void storeFour(float *to, long long i, long long size, const float *x) {
  if (i + 4 <= size) {
    *(float4 *)(to + i) = make_float4(x[0], x[1], x[2], x[3]);
  } else {
#pragma unroll
    for (int e = 0; e < 4; e++)
      if (i + e < size) to[i + e] = x[e];
  }
}

// Index of the block's parameter: the last one whose first block is not after this block.
__device__ inline int parameterOf(const Parameter *parameters, int count) {
  int low = 0, high = count - 1;
  while (low < high) {
    int middle = (low + high + 1) / 2;
    if (parameters[middle].firstBlock <= (int)blockIdx.x) low = middle;
    else high = middle - 1;
  }
  return low;
}

// partials[block] = Σ grad² over the block's elements. Grid as above.
extern "C" __global__ void squaresOfGradients(const Parameter *parameters, int count, float *partials) {
  Parameter p = parameters[parameterOf(parameters, count)];
  long long start = (long long)(blockIdx.x - p.firstBlock) * ELEMENTS_PER_BLOCK;
  float sum = 0.0f;
#pragma unroll
  for (int j = 0; j < ELEMENTS_PER_BLOCK / ELEMENTS_AT_ONCE; j++) {
    float g[4] = {0.0f, 0.0f, 0.0f, 0.0f};
    loadFour(p.grad, start + 4 * (j * 256 + threadIdx.x), p.size, g);
    sum += (g[0] * g[0] + g[1] * g[1]) + (g[2] * g[2] + g[3] * g[3]);
  }
  sum = blockSum(sum);
  if (threadIdx.x == 0) partials[blockIdx.x] = sum;
}

// norm = sqrt(Σ partials) of `count` partials. One block.
extern "C" __global__ void normOfPartials(const float *partials, int count, float *norm) {
  float sum = 0.0f;
  for (int i = threadIdx.x; i < count; i += blockDim.x) sum += partials[i];
  sum = blockSum(sum);
  if (threadIdx.x == 0) *norm = sqrtf(sum);
}

// One step of AdamW. With g = grad·min(1, maxNorm / (norm + clipEpsilon)), or grad if maxNorm is 0:
//   mean = beta1·mean + (1 - beta1)·g, variance = beta2·variance + (1 - beta2)·g²,
// and with rate = the schedule's rate · the parameter's factor:
//   value = value·(1 - rate·decay) - rate·(mean / correction1) / (sqrt(variance / correction2) + epsilon)
// schedule is [rate, correction1 = 1 - beta1^step, correction2 = 1 - beta2^step]. Writes value, mean, variance and weights;
// nothing if the norm is not finite. Grid as above.
extern "C" __global__ void adamW(const Parameter *parameters, int count, const float *norm, const float *schedule,
                                 float beta1, float beta2, float epsilon, float maxNorm, float clipEpsilon) {
  if (!isfinite(*norm)) return;
  Parameter p = parameters[parameterOf(parameters, count)];
  long long start = (long long)(blockIdx.x - p.firstBlock) * ELEMENTS_PER_BLOCK;
  float rate = schedule[0] * p.rate, correction1 = schedule[1], correction2 = schedule[2];
  float clip = maxNorm > 0.0f ? fminf(1.0f, maxNorm / (*norm + clipEpsilon)) : 1.0f;
  float keep = 1.0f - rate * p.decay;
  for (int j = 0; j < ELEMENTS_PER_BLOCK / ELEMENTS_AT_ONCE; j++) {
    long long i = start + 4 * (j * 256 + threadIdx.x);
    if (i >= p.size) return;
    float value[4], gradient[4], mean[4], variance[4];
    loadFour(p.value, i, p.size, value);
    loadFour(p.grad, i, p.size, gradient);
    loadFour(p.mean, i, p.size, mean);
    loadFour(p.variance, i, p.size, variance);
#pragma unroll
    for (int e = 0; e < 4; e++) {
      float g = gradient[e] * clip;
      mean[e] = beta1 * mean[e] + (1.0f - beta1) * g;
      variance[e] = beta2 * variance[e] + (1.0f - beta2) * g * g;
      value[e] = value[e] * keep - rate * (mean[e] / correction1) / (sqrtf(variance[e] / correction2) + epsilon);
    }
    storeFour(p.value, i, p.size, value);
    storeFour(p.mean, i, p.size, mean);
    storeFour(p.variance, i, p.size, variance);
    if (p.weights == 0) continue;
    if (i + 4 <= p.size) {
      *(uint2 *)(p.weights + i) = make_uint2(packBf16(value[0], value[1]), packBf16(value[2], value[3]));
    } else {
#pragma unroll
      for (int e = 0; e < 4; e++)
        if (i + e < p.size) assign(p.weights[i + e], value[e]);
    }
  }
}
