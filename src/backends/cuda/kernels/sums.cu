// Sums over the rows or along the rows of a matrix, in two passes and always in the same order: no atomics. The first pass
// writes a partial sum for each chunk, the second adds them up.

// partials[chunk, column] = Σ over the chunk's rows of dy[row, column] · x[row, column] · scale[row]; a null x or scale
// counts as 1. A row whose scale is 0 is not read. Block: 32 columns × 8 rows; grid: (columns / 32, chunks).
extern "C" __global__ void columnPartials(const activation *dy, const activation *x, const float *scale,
                                          float *partials, int rows, int width, int rowsOfChunk) {
  __shared__ float tile[8][WARP];
  int lane = threadIdx.x % WARP, group = threadIdx.x / WARP, column = blockIdx.x * WARP + lane;
  int start = blockIdx.y * rowsOfChunk, end = min(rows, start + rowsOfChunk);
  float sum = 0.0f;
  for (int row = start + group; row < end; row += 8) {
    float weight = scale != 0 ? scale[row] : 1.0f;
    if (weight == 0.0f || column >= width) continue;
    long long at = (long long)row * width + column;
    sum += toFloat(dy[at]) * (x != 0 ? toFloat(x[at]) : 1.0f) * weight;
  }
  tile[group][lane] = sum;
  __syncthreads();
  if (group > 0 || column >= width) return;
  for (int other = 1; other < 8; other++) sum += tile[other][lane];
  partials[(long long)blockIdx.y * width + column] = sum;
}

// The same of float32 rows without factors, for the bias of logits that stay in float32. Block and grid as above.
extern "C" __global__ void columnPartialsFloat(const float *dy, float *partials, int rows, int width, int rowsOfChunk) {
  __shared__ float tile[8][WARP];
  int lane = threadIdx.x % WARP, group = threadIdx.x / WARP, column = blockIdx.x * WARP + lane;
  int start = blockIdx.y * rowsOfChunk, end = min(rows, start + rowsOfChunk);
  float sum = 0.0f;
  for (int row = start + group; row < end; row += 8)
    if (column < width) sum += dy[(long long)row * width + column];
  tile[group][lane] = sum;
  __syncthreads();
  if (group > 0 || column >= width) return;
  for (int other = 1; other < 8; other++) sum += tile[other][lane];
  partials[(long long)blockIdx.y * width + column] = sum;
}

// Σ partials[·, column] over the chunks: columns before `second` go to out, those before `third` to out2, those before
// `fourth` to out3, the rest to out4.
// Block: 32 columns × 32 chunks at a time; grid: columns / 32.
extern "C" __global__ void sumPartials(const float *partials, float *out, float *out2, float *out3, float *out4,
                                       int chunks, int width, int second, int third, int fourth) {
  __shared__ float tile[WARP][WARP + 1];
  int lane = threadIdx.x % WARP, group = threadIdx.x / WARP, column = blockIdx.x * WARP + lane;
  float sums[4] = {0.0f, 0.0f, 0.0f, 0.0f}; // four loads in flight
  if (column < width) {
    for (int chunk = group; chunk < chunks; chunk += 4 * WARP) {
#pragma unroll
      for (int j = 0; j < 4; j++)
        if (chunk + j * WARP < chunks) sums[j] += partials[(long long)(chunk + j * WARP) * width + column];
    }
  }
  tile[group][lane] = (sums[0] + sums[1]) + (sums[2] + sums[3]);
  __syncthreads();
  float sum = warpSum(tile[lane][group]);
  column = blockIdx.x * WARP + group;
  if (lane > 0 || column >= width) return;
  if (column < second) out[column] = sum;
  else if (column < third) out2[column - second] = sum;
  else if (column < fourth) out3[column - third] = sum;
  else out4[column - fourth] = sum;
}

// out[row, chunk] = scale · Σ over the chunk's `ofChunk` numbers of x[row, ·], float32; each thread has four loads in flight.
// Blocks of 1024 threads; grid: (rows, chunks).
extern "C" __global__ void sumRows(const float *x, float *out, int width, int ofChunk, float scale) {
  const float *row = x + (long long)blockIdx.x * width;
  int start = blockIdx.y * ofChunk, end = min(width, start + ofChunk);
  float sums[4] = {0.0f, 0.0f, 0.0f, 0.0f};
  for (int i = start + threadIdx.x; i < end; i += 4 * blockDim.x) {
#pragma unroll
    for (int j = 0; j < 4; j++)
      if (i + j * blockDim.x < end) sums[j] += row[i + j * blockDim.x];
  }
  float sum = blockSum((sums[0] + sums[1]) + (sums[2] + sums[3]));
  if (threadIdx.x == 0) out[(long long)blockIdx.x * gridDim.y + blockIdx.y] = scale * sum;
}
