// The running quantile of router weights, for the routing mode `quantile`. r and mask [sequences, length] float32, mask 1 for the k
// largest r of a sequence and 0 for the others; thresholds [blocks, sequences of the batch].

// thresholds[s] = (min of the selected r + max of the others) / 2 of sequence s: its k-th and k+1-th largest; -infinity if all are
// selected. Reads r and mask; writes thresholds, which points to the block's row and the first of these sequences. Grid: a block
// of 256 threads per sequence.
extern "C" __global__ void routedThreshold(const float *r, const float *mask, float *thresholds, int length) {
  __shared__ float leasts[WARP], mosts[WARP];
  long long start = (long long)blockIdx.x * length;
  float least = -NEGATIVE_INFINITY, most = NEGATIVE_INFINITY;
  for (int t = threadIdx.x; t < length; t += blockDim.x) {
    float weight = r[start + t];
    if (mask[start + t] == 1.0f) least = fminf(least, weight);
    else most = fmaxf(most, weight);
  }
  least = -warpMax(-least);
  most = warpMax(most);
  int warp = threadIdx.x / WARP, lane = threadIdx.x % WARP, warps = blockDim.x / WARP;
  if (lane == 0) {
    leasts[warp] = least;
    mosts[warp] = most;
  }
  __syncthreads();
  if (warp > 0) return;
  least = -warpMax(lane < warps ? -leasts[lane] : NEGATIVE_INFINITY);
  most = warpMax(lane < warps ? mosts[lane] : NEGATIVE_INFINITY);
  if (lane == 0) thresholds[blockIdx.x] = 0.5f * (least + most);
}

// state[block] = decay·state[block] + (1 - decay)·mean of thresholds[block]; state[blocks], the number of steps, + 1. Nothing if
// the norm is not finite. The order of a sum depends on the number of sequences alone. Grid: a warp per routed block.
extern "C" __global__ void runningQuantile(const float *thresholds, const float *norm, float *state, int blocks,
                                           int sequences, float decay) {
  if (!isfinite(*norm)) return;
  const float *row = thresholds + (long long)blockIdx.x * sequences;
  float sum = 0.0f;
  for (int s = threadIdx.x; s < sequences; s += WARP) sum += row[s];
  sum = warpSum(sum);
  if (threadIdx.x != 0) return;
  state[blockIdx.x] = decay * state[blockIdx.x] + (1.0f - decay) * (sum / sequences);
  if (blockIdx.x == 0) state[blocks] += 1.0f;
}
