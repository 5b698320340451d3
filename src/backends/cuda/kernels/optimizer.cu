// AdamW over all parameters in one launch, and the global norm of all gradients in two; no host in between.

// One parameter. weights are its bf16 values for products, or none.
struct Parameter {
  float *value;
  const float *grad;
  float *mean;
  float *variance;
  bf16 *weights;
  long long size;
  float decay;
  int firstBlock; // the first of its blocks in the grid
};

#define OF_BLOCK 4096 // elements of one parameter that a block takes

// The parameter that a block belongs to: the last whose first block is not after it.
__device__ inline int parameterOf(const Parameter *parameters, int count) {
  int low = 0, high = count - 1;
  while (low < high) {
    int middle = (low + high + 1) / 2;
    if (parameters[middle].firstBlock <= (int)blockIdx.x) low = middle;
    else high = middle - 1;
  }
  return low;
}

// partials[block] = Σ grad² over the block's elements. 256 threads.
extern "C" __global__ void squaresOfGradients(const Parameter *parameters, int count, float *partials) {
  Parameter p = parameters[parameterOf(parameters, count)];
  long long start = (long long)(blockIdx.x - p.firstBlock) * OF_BLOCK;
  float sum = 0.0f;
  for (int i = threadIdx.x; i < OF_BLOCK; i += blockDim.x)
    if (start + i < p.size) sum += p.grad[start + i] * p.grad[start + i];
  sum = blockSum(sum);
  if (threadIdx.x == 0) partials[blockIdx.x] = sum;
}

// norm = sqrt(Σ partials). One block.
extern "C" __global__ void normOfPartials(const float *partials, int count, float *norm) {
  float sum = 0.0f;
  for (int i = threadIdx.x; i < count; i += blockDim.x) sum += partials[i];
  sum = blockSum(sum);
  if (threadIdx.x == 0) *norm = sqrtf(sum);
}

// One step: schedule is [learning rate, 1 - beta1^step, 1 - beta2^step]; gradients are scaled by
// min(1, maxNorm / (norm + clipEpsilon)), maxNorm 0: not at all. A norm that is not finite: nothing is written.
// 256 threads.
extern "C" __global__ void adamW(const Parameter *parameters, int count, const float *norm, const float *schedule,
                                 float beta1, float beta2, float epsilon, float maxNorm, float clipEpsilon) {
  if (!isfinite(*norm)) return;
  Parameter p = parameters[parameterOf(parameters, count)];
  long long start = (long long)(blockIdx.x - p.firstBlock) * OF_BLOCK;
  float rate = schedule[0], correction1 = schedule[1], correction2 = schedule[2];
  float clip = maxNorm > 0.0f ? fminf(1.0f, maxNorm / (*norm + clipEpsilon)) : 1.0f;
  float keep = 1.0f - rate * p.decay;
  for (int j = threadIdx.x; j < OF_BLOCK; j += blockDim.x) {
    long long i = start + j;
    if (i >= p.size) return;
    float gradient = p.grad[i] * clip;
    float m = beta1 * p.mean[i] + (1.0f - beta1) * gradient;
    float v = beta2 * p.variance[i] + (1.0f - beta2) * gradient * gradient;
    p.mean[i] = m;
    p.variance[i] = v;
    float value = p.value[i] * keep - rate * (m / correction1) / (sqrtf(v / correction2) + epsilon);
    p.value[i] = value;
    if (p.weights != 0) assign(p.weights[i], value);
  }
}
