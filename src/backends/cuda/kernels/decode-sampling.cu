// Draws a token from softmax(logits / temperature), limited to the most probable tokens whose sum reaches top-p: the token that
// `sample` of src/eval/generate.ts draws for the same uniform number. Included by decode.cu. Probabilities are integers, in
// units of 2^-40 of the most probable one, so that sums are exact in any order; tokens below one unit cannot be drawn.

#define MASS_OF_TOP 1099511627776.0f // 2^40
#define BITS_OF_ONE 0x3f800000u      // 1.0f: the largest weight; positive floats compare as their bits do

typedef unsigned long long mass;

struct Logits {
  const float *values;
  int n;
  float top, temperature;
};

// exp((logit - top) / temperature), with explicit rounding, so that every call gives the same bits.
__device__ inline float weightOf(const Logits &logits, int i) {
  return expf(__fdiv_rn(__fsub_rn(logits.values[i], logits.top), logits.temperature));
}
__device__ inline mass massOf(float weight) { return (mass)(weight * MASS_OF_TOP); }

__device__ inline mass warpTotal(mass x) {
#pragma unroll
  for (int offset = WARP / 2; offset > 0; offset /= 2) x += __shfl_xor_sync(FULL, x, offset);
  return x;
}

// The sum over the block, returned to every thread.
__device__ mass blockTotal(mass x) {
  __shared__ mass totals[WARP];
  x = warpTotal(x);
  __syncthreads(); // an earlier call's totals may still be read
  if (threadIdx.x % WARP == 0) totals[threadIdx.x / WARP] = x;
  __syncthreads();
  return warpTotal(threadIdx.x % WARP < DECODE_WARPS ? totals[threadIdx.x % WARP] : 0);
}

__device__ float blockMax(float x) {
  __shared__ float tops[WARP];
  x = warpMax(x);
  __syncthreads();
  if (threadIdx.x % WARP == 0) tops[threadIdx.x / WARP] = x;
  __syncthreads();
  return warpMax(threadIdx.x % WARP < DECODE_WARPS ? tops[threadIdx.x % WARP] : NEGATIVE_INFINITY);
}

__device__ mass massAtLeast(const Logits &logits, unsigned bits) {
  mass sum = 0;
#pragma unroll 4
  for (int i = threadIdx.x; i < logits.n; i += DECODE_THREADS) {
    float weight = weightOf(logits, i);
    if (__float_as_uint(weight) >= bits) sum += massOf(weight);
  }
  return blockTotal(sum);
}

// The bits of the largest weight such that tokens of at least this weight have a mass above `target`.
__device__ unsigned weightAt(const Logits &logits, mass target) {
  unsigned low = 0, high = BITS_OF_ONE; // the answer is in [low, high]
  while (low < high) {
    unsigned middle = low + (high - low + 1) / 2;
    if (massAtLeast(logits, middle) > target) low = middle;
    else high = middle - 1;
  }
  return low;
}

// The first token at which the sum of ownMass(i), in the order of tokens, exceeds targetOf(the sum of all); returned to every
// thread. Each warp sums a span of the tokens; the span of the target is then divided among the warps.
template <class Mass, class Target> __device__ int tokenAt(int n, Mass ownMass, Target targetOf) {
  __shared__ mass totals[DECODE_WARPS];
  int warp = threadIdx.x / WARP, lane = threadIdx.x % WARP, first = 0, count = n;
  mass target = 0;
  for (bool isWhole = true;; isWhole = false) {
    int span = (count + DECODE_WARPS - 1) / DECODE_WARPS, begin = min(first + warp * span, first + count);
    int end = min(begin + span, first + count);
    mass own = 0;
#pragma unroll 8
    for (int i = begin + lane; i < end; i += WARP) own += ownMass(i);
    own = warpTotal(own);
    __syncthreads(); // earlier totals have been read
    if (lane == 0) totals[warp] = own;
    __syncthreads();
    if (isWhole) {
      mass all = 0;
      for (int w = 0; w < DECODE_WARPS; w++) all += totals[w];
      target = targetOf(all);
    }
    int chosen = 0;
    while (chosen < DECODE_WARPS - 1 && totals[chosen] <= target) target -= totals[chosen++];
    int last = first + count;
    first = min(first + chosen * span, last - 1);
    if (span == 1) return first;
    count = min(span, last - first);
  }
}

// By one block. uniform is in (0, 1); temperature 0 gives the most probable token, the first of equal ones.
__device__ __noinline__ int drawToken(const float *values, int n, float temperature, double topP, double uniform) {
  float top = NEGATIVE_INFINITY;
#pragma unroll 8
  for (int i = threadIdx.x; i < n; i += DECODE_THREADS) top = fmaxf(top, values[i]);
  top = blockMax(top);
  if (temperature == 0.0f)
    return tokenAt(n, [&](int i) { return (mass)(values[i] == top ? 1 : 0); }, [](mass) { return (mass)0; });
  Logits logits = {values, n, top, temperature};
  auto targetIn = [&](mass kept) { return min((mass)(uniform * (double)kept), kept - 1); };
  if (topP >= 1.0) return tokenAt(n, [&](int i) { return massOf(weightOf(logits, i)); }, targetIn);
  // The cut is at tokens of one weight: those of larger weight are all kept, of these as many as reach the goal.
  mass goal = max((mass)1, (mass)ceil(topP * (double)massAtLeast(logits, 0)));
  unsigned cut = weightAt(logits, goal - 1);
  mass above = massAtLeast(logits, cut + 1), each = massOf(__uint_as_float(cut));
  mass target = targetIn(above + (goal - above + each - 1) / each * each);
  unsigned drawn = weightAt(logits, target);
  mass rank = (target - massAtLeast(logits, drawn + 1)) / massOf(__uint_as_float(drawn));
  return tokenAt(n, [&](int i) { return (mass)(__float_as_uint(weightOf(logits, i)) == drawn ? 1 : 0); },
                 [&](mass) { return rank; });
}
