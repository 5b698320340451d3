// Products of the few rows that decoding has with a weight: y[m, n] = Σ_k a[m, k]·w[n, k], by all blocks of a grid at once.
// RMSNorm needs no pass of its own: its gains are in the weight already, and the rows' squares are summed along the way, so
// that y is scaled by 1 / sqrt(mean(a²) + 1e-6) in the end.
// A tile is 8 columns. The warps of a block are groups of `slices` warps: each group has a set of tiles, each of its warps
// every so-many-th chunk of 32 of k; the slices are added up in shared memory, always in the same order. Four lanes read
// 8 elements each of a row's chunk, 16 bytes in bf16: k's order within a chunk is then not that of the tensor cores'
// operands, but it is the same for both of them.

#define DECODE_THREADS 512
#define DECODE_WARPS (DECODE_THREADS / WARP)
#define CHUNK 32
#define TILE 8

__device__ const float NORM_EPSILON = 1e-6f;

// Eight activations in a row as they are stored.
#if ACTIVATIONS_BF16
struct Eight {
  uint4 words;
};
#define NO_EIGHT {make_uint4(0, 0, 0, 0)}
#else
struct Eight {
  float4 low, high;
};
#define NO_EIGHT {make_float4(0, 0, 0, 0), make_float4(0, 0, 0, 0)}
#endif
__device__ inline void unpack(const Eight &eight, float *x) { load<8>((const activation *)&eight, x); }

// Activations change while the kernel runs: an ordinary load, which a barrier of the grid orders.
__device__ inline Eight readEight(const activation *from) { return *(const Eight *)from; }

// Weights never change, and each is used once: past the first-level cache.
__device__ inline uint4 loadConstant(const void *from) {
  uint4 x;
  asm volatile("ld.global.nc.L1::no_allocate.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(x.x), "=r"(x.y), "=r"(x.z), "=r"(x.w)
               : "l"(from));
  return x;
}
__device__ inline Eight readWeight(const activation *from) {
  Eight eight;
#pragma unroll
  for (int i = 0; i < (int)(sizeof(Eight) / sizeof(uint4)); i++)
    ((uint4 *)&eight)[i] = loadConstant((const uint4 *)from + i);
  return eight;
}

struct Product {
  const activation *a;
  const int *rows; // which row of a each row is; none: the first, the second, ...
  int m;
  const activation *w; // [n, k]
  int n, k;
  int normed;     // whether rows are scaled to mean squares of 1
  int pairedSize; // of a head, where a tile's last four columns are to be the rotary partners of its first four; else 0
};

// The weight's row behind a column.
__device__ inline int weightRow(int column, int pairedSize) {
  if (pairedSize == 0) return column;
  int within = column % pairedSize, group = within / TILE, c = within % TILE;
  return column - within + group * (TILE / 2) + (c < TILE / 2 ? c : pairedSize / 2 + c - TILE / 2);
}

#if ACTIVATIONS_BF16
#define LARGEST_BAND 4

// c += a·b of 16 rows, 8 columns and 16 of k. Lane 4g + t: a0, a1 rows g and g + 8 at k = 2t, a2, a3 at k = 2t + 8; b0, b1
// column g likewise; c0, c1 row g at columns 2t and 2t + 1, c2, c3 row g + 8.
__device__ inline void multiplyTensors(float *c, unsigned a0, unsigned a1, unsigned a2, unsigned a3, unsigned b0,
                                       unsigned b1) {
  asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
               "{%0, %1, %2, %3};"
               : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
               : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
}

// One warp's share of MT·16 rows and NT tiles: sums [MT·16, NT·8] and the rows' squares [MT·16] over its chunks.
template <int MT, int NT>
__device__ inline void multiplySlice(const Product &p, int firstRow, int firstTile, int slice, int slices,
                                           float *sums, float *squares) {
  // Chunks whose loads are under way together: as many as registers hold.
  constexpr int AHEAD = MT == 1 ? 6 : NT == 1 ? 2 : 1;
  int lane = threadIdx.x % WARP, g = lane / 4, t = lane % 4, chunks = (p.k + CHUNK - 1) / CHUNK;
  int from[MT][2];
  const activation *columns[NT];
  float sum[MT][NT][4], square[MT][2];
#pragma unroll
  for (int i = 0; i < MT; i++)
#pragma unroll
    for (int half = 0; half < 2; half++) {
      int row = firstRow + 16 * i + 8 * half + g;
      from[i][half] = row < p.m ? (p.rows != 0 ? p.rows[row] : row) * p.k : -1;
      square[i][half] = 0.0f;
    }
#pragma unroll
  for (int j = 0; j < NT; j++) {
    int column = TILE * (firstTile + j) + g;
    columns[j] = column < p.n ? p.w + (long long)weightRow(column, p.pairedSize) * p.k : 0;
#pragma unroll
    for (int i = 0; i < MT; i++)
#pragma unroll
      for (int e = 0; e < 4; e++) sum[i][j][e] = 0.0f;
  }
  for (int chunk = slice; chunk < chunks; chunk += AHEAD * slices) {
    Eight a[AHEAD][MT][2], b[AHEAD][NT];
#pragma unroll
    for (int u = 0; u < AHEAD; u++) {
      int k = (chunk + u * slices) * CHUNK + 8 * t;
      bool inside = k < p.k;
#pragma unroll
      for (int j = 0; j < NT; j++) {
        b[u][j] = NO_EIGHT;
        if (inside && columns[j] != 0) b[u][j] = readWeight(columns[j] + k);
      }
#pragma unroll
      for (int i = 0; i < MT; i++)
#pragma unroll
        for (int half = 0; half < 2; half++) {
          a[u][i][half] = NO_EIGHT;
          if (inside && from[i][half] >= 0) a[u][i][half] = readEight(p.a + from[i][half] + k);
        }
    }
#pragma unroll
    for (int u = 0; u < AHEAD; u++)
#pragma unroll
      for (int i = 0; i < MT; i++) {
        uint4 low = a[u][i][0].words, high = a[u][i][1].words;
#pragma unroll
        for (int j = 0; j < NT; j++) {
          uint4 w = b[u][j].words;
          multiplyTensors(sum[i][j], low.x, high.x, low.y, high.y, w.x, w.y);
          multiplyTensors(sum[i][j], low.z, high.z, low.w, high.w, w.z, w.w);
        }
        if (!p.normed) continue;
#pragma unroll
        for (int half = 0; half < 2; half++) {
          float x[8];
          unpack(a[u][i][half], x);
#pragma unroll
          for (int e = 0; e < 8; e++) square[i][half] += x[e] * x[e];
        }
      }
  }
#pragma unroll
  for (int i = 0; i < MT; i++)
#pragma unroll
    for (int half = 0; half < 2; half++) {
      int row = 16 * i + 8 * half + g;
      float s = square[i][half];
      s += __shfl_xor_sync(FULL, s, 1);
      s += __shfl_xor_sync(FULL, s, 2);
      if (t == 0) squares[row] = s;
#pragma unroll
      for (int j = 0; j < NT; j++) {
        sums[row * NT * TILE + j * TILE + 2 * t] = sum[i][j][2 * half];
        sums[row * NT * TILE + j * TILE + 2 * t + 1] = sum[i][j][2 * half + 1];
      }
    }
}
#else
#define LARGEST_BAND 1

// The same in float32, for exactness and not for speed: lane 4g + t has column g and 8 of each chunk's k.
template <int MT, int NT>
__device__ inline void multiplySlice(const Product &p, int firstRow, int firstTile, int slice, int slices,
                                           float *sums, float *squares) {
  int lane = threadIdx.x % WARP, g = lane / 4, t = lane % 4, chunks = (p.k + CHUNK - 1) / CHUNK;
  int column = TILE * firstTile + g;
  const activation *weight = p.w + (long long)weightRow(column, p.pairedSize) * p.k;
  float sum[16], square[16];
#pragma unroll
  for (int i = 0; i < 16; i++) sum[i] = square[i] = 0.0f;
  for (int chunk = slice; chunk < chunks; chunk += slices) {
    int k = chunk * CHUNK + 8 * t;
    if (k >= p.k) continue;
    float w[8];
    Eight eight = NO_EIGHT;
    if (column < p.n) eight = readWeight(weight + k);
    unpack(eight, w);
#pragma unroll
    for (int i = 0; i < 16; i++) {
      if (firstRow + i >= p.m) continue;
      float a[8];
      unpack(readEight(p.a + (long long)(p.rows != 0 ? p.rows[firstRow + i] : firstRow + i) * p.k + k), a);
#pragma unroll
      for (int e = 0; e < 8; e++) {
        sum[i] += a[e] * w[e];
        square[i] += a[e] * a[e];
      }
    }
  }
#pragma unroll
  for (int i = 0; i < 16; i++) {
    for (int offset = 1; offset < 4; offset *= 2) {
      sum[i] += __shfl_xor_sync(FULL, sum[i], offset);
      square[i] += __shfl_xor_sync(FULL, square[i], offset);
    }
    if (t == 0) sums[i * TILE + g] = sum[i];
    if (lane == 0) squares[i] = square[i];
  }
}
#endif

// One copy of this for all phases: they have each only what differs.
__device__ __noinline__ void multiplyAnySlice(Product p, int band, int tiles, int firstRow, int firstTile, int slice,
                                              int slices, float *sums, float *squares) {
#define SLICE(MT, NT)                                                                                                 \
  if (band == MT && tiles == NT) multiplySlice<MT, NT>(p, firstRow, firstTile, slice, slices, sums, squares);
  SLICE(1, 1)
#if ACTIVATIONS_BF16
  SLICE(2, 1) SLICE(2, 2) SLICE(2, 3) SLICE(4, 1) SLICE(4, 2) SLICE(4, 3)
#endif
#undef SLICE
}

// The whole product by the whole grid: finish(row, column, y, yFour) is called once for each row and each pair of columns
// `column` and column + 4 of a tile. `scratch` is shared memory for DECODE_WARPS · 16·band · (8·tiles + 1) floats;
// mostTiles 1, 2 or 3. Ends with the block in step.
template <class Finish> __device__ void product(const Product &p, float *scratch, int mostTiles, Finish finish) {
  int warp = threadIdx.x / WARP, chunks = (p.k + CHUNK - 1) / CHUNK, columnTiles = (p.n + TILE - 1) / TILE;
  int band = p.m <= 16 || LARGEST_BAND == 1 ? 1 : p.m <= 32 ? 2 : 4; // of 16 rows
  // Many rows are read once for up to three tiles, as long as that leaves no block idle that would have had one.
  int tiles = 1;
  while (band > 1 && tiles < mostTiles && columnTiles > tiles * gridDim.x) tiles++;
  int sets = (columnTiles + tiles - 1) / tiles, items = sets * ((p.m + 16 * band - 1) / (16 * band));
  int slices = 1;
  while (2 * slices <= DECODE_WARPS && 2 * slices <= chunks &&
         (band > 1 || 2 * slices * items <= DECODE_WARPS * gridDim.x))
    slices *= 2;
  int groups = DECODE_WARPS / slices, group = warp / slices, slice = warp % slices;
  int height = 16 * band, width = TILE * tiles;
  float *sums = scratch + group * slices * height * (width + 1), *squares = sums + slices * height * width;
  for (int base = 0; base < items; base += groups * gridDim.x) {
    int item = base + group * gridDim.x + blockIdx.x;
    int firstRow = item / sets * height, firstTile = item % sets * tiles;
    if (item < items) {
      multiplyAnySlice(p, band, tiles, firstRow, firstTile, slice, slices, sums + slice * height * width,
                       squares + slice * height);
    }
    __syncthreads();
    int rows = item < items ? min(height, p.m - firstRow) : 0;
    for (int i = threadIdx.x % (slices * WARP); i < rows * width / 2; i += slices * WARP) {
      int row = i / (width / 2), inRow = i % (width / 2) / 4 * TILE + i % 4, column = firstTile * TILE + inRow;
      float y = 0.0f, yFour = 0.0f, square = 0.0f;
      for (int s = 0; s < slices; s++) {
        y += sums[(s * height + row) * width + inRow];
        yFour += sums[(s * height + row) * width + inRow + 4];
        square += squares[s * height + row];
      }
      float scale = p.normed ? 1.0f / sqrtf(square / p.k + NORM_EPSILON) : 1.0f;
      if (column < p.n) finish(firstRow + row, column, y * scale, yFour * scale);
    }
    __syncthreads();
  }
}
