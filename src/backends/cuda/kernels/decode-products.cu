// Products of the few rows of decoding with a weight: y[m, n] = Σ_k a[m, k]·w[n, k], by all blocks of the grid. Included by
// decode.cu. RMSNorm is fused: the weight is multiplied by its gains in advance, and the rows' squares are summed with the
// product, so that y is scaled by 1 / sqrt(mean(a²) + 1e-6) at the end.
// A tile is 8 columns. The warps of a block form groups of `slices` warps: each group has a set of tiles, and its warps stride
// over the chunks of 32 of k; the slices are added up in shared memory, always in the same order. Four lanes read 8 elements
// each of a row's chunk, 16 bytes in bf16: within a chunk, k has another order than in the operands of tensor cores, but the
// same one in both operands.

#define DECODE_THREADS 512
#define DECODE_WARPS (DECODE_THREADS / WARP)
#define CHUNK 32
#define TILE 8
#if __CUDA_ARCH__ >= 900
#define PREFETCH_BYTES 1024 // of one instruction
#else
#define PREFETCH_BYTES 64
#endif

__device__ const float NORM_EPSILON = 1e-6f;

// Eight consecutive activations as they are stored.
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

// An ordinary load, ordered by the grid's barriers, as activations change while the kernel runs.
__device__ inline Eight readEight(const activation *from) { return *(const Eight *)from; }

// A load through the read-only cache, as weights never change.
__device__ inline uint4 loadConstant(const void *from) {
  uint4 x;
  asm volatile("ld.global.nc.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(x.x), "=r"(x.y), "=r"(x.z), "=r"(x.w)
               : "l"(from));
  return x;
}
// A load that is not cached in L1, for data that is read once.
__device__ inline uint4 loadOnce(const void *from) {
  uint4 x;
  asm volatile("ld.global.L1::no_allocate.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(x.x), "=r"(x.y), "=r"(x.z), "=r"(x.w)
               : "l"(from)
               : "memory");
  return x;
}
// Starts to load bytes, a multiple of 16, into the L2 cache.
__device__ inline void prefetchBytes(const void *from, unsigned bytes) {
#if __CUDA_ARCH__ >= 900
  asm volatile("cp.async.bulk.prefetch.L2.global [%0], %1;" ::"l"(from), "r"(bytes));
#else
  asm volatile("prefetch.global.L2 [%0];" ::"l"(from));
#endif
}
__device__ inline Eight readWeight(const activation *from) {
  Eight eight;
#pragma unroll
  for (int i = 0; i < (int)(sizeof(Eight) / sizeof(uint4)); i++)
    ((uint4 *)&eight)[i] = loadConstant((const uint4 *)from + i);
  return eight;
}

// x / d of integers, for x below 2^22 and inverse = 1 / d: adding 0.5 keeps the quotient away from rounding errors. An integer
// division is slow, and the first one of a phase delays all of it.
__device__ inline int quotient(int x, float inverse) { return (int)(((float)x + 0.5f) * inverse); }

// How a product is divided: into items of 16 rows, one of `bands`, by `tiles` tiles, each computed by 2^sliceBits warps.
struct Plan {
  int bands, tiles, items, sliceBits;
  float perBand; // 1 / bands
};

struct Product {
  const activation *a;
  const int *rows; // the rows of a; null: 0, 1, 2, ...
  int m;
  const activation *w; // [n, k]
  int n, k;
  int normed;            // whether rows are scaled to mean squares of 1
  int pairedSize;        // the head size, if a tile's last four columns are to be the rotary partners of its first four; else 0
  float perPaired, perK; // 1 / pairedSize and 1 / k
  Plan plan;
};

// The index within its head, as in weights and caches, of a column of a head with paired columns.
__device__ inline int placeInHead(int within, int size) {
  int group = within / TILE, c = within % TILE;
  return group * (TILE / 2) + (c < TILE / 2 ? c : size / 2 + c - TILE / 2);
}
// The row of the weight that gives a column.
__device__ inline int weightRow(const Product &p, int column) {
  if (p.pairedSize == 0) return column;
  int first = quotient(column, p.perPaired) * p.pairedSize;
  return first + placeInHead(column - first, p.pairedSize);
}

#if ACTIVATIONS_BF16
#define MAX_TILES 3 // of a warp

// c += a·b of 16 rows, 8 columns and 16 of k. Lane 4g + t: a0, a1 rows g and g + 8 at k = 2t, a2, a3 at k = 2t + 8; b0, b1
// column g likewise; c0, c1 row g at columns 2t and 2t + 1, c2, c3 row g + 8.
__device__ inline void multiplyTensors(float *c, unsigned a0, unsigned a1, unsigned a2, unsigned a3, unsigned b0,
                                       unsigned b1) {
  asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
               "{%0, %1, %2, %3};"
               : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
               : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
}

// One warp's chunks of 16 rows and TILES tiles: sums [16, TILES·8], and the rows' squares [16].
template <int TILES>
__device__ inline void multiplySlice(const Product &p, int firstRow, int firstTile, int slice, float *sums,
                                     float *squares) {
  // Chunks whose loads are in flight together: as many as fit in registers.
  constexpr int AHEAD = TILES == 1 ? 6 : TILES == 2 ? 4 : 3;
  int lane = threadIdx.x % WARP, g = lane / 4, t = lane % 4, chunks = (p.k + CHUNK - 1) / CHUNK;
  // Rows g and g + 8, and column g of each tile. Beyond the last one: the last one again, whose results are not read.
  int from[2], columns[TILES];
  float sum[TILES][4], square[2];
#pragma unroll
  for (int half = 0; half < 2; half++) {
    int row = min(firstRow + 8 * half + g, p.m - 1);
    from[half] = (p.rows != 0 ? p.rows[row] : row) * p.k;
    square[half] = 0.0f;
  }
#pragma unroll
  for (int j = 0; j < TILES; j++) {
    columns[j] = weightRow(p, min(TILE * (firstTile + j) + g, p.n - 1)) * p.k;
#pragma unroll
    for (int e = 0; e < 4; e++) sum[j][e] = 0.0f;
  }
  int slices = 1 << p.plan.sliceBits;
  for (int chunk = slice; chunk < chunks; chunk += AHEAD * slices) {
    Eight a[AHEAD][2], b[AHEAD][TILES];
#pragma unroll
    for (int u = 0; u < AHEAD; u++) {
      int k = (chunk + u * slices) * CHUNK + 8 * t;
      bool inside = k < p.k;
#pragma unroll
      for (int j = 0; j < TILES; j++) {
        b[u][j] = NO_EIGHT;
        if (inside) b[u][j] = readWeight(p.w + columns[j] + k);
      }
#pragma unroll
      for (int half = 0; half < 2; half++) {
        a[u][half] = NO_EIGHT;
        if (inside) a[u][half] = readEight(p.a + from[half] + k);
      }
    }
#pragma unroll
    for (int u = 0; u < AHEAD; u++) {
      uint4 low = a[u][0].words, high = a[u][1].words;
#pragma unroll
      for (int j = 0; j < TILES; j++) {
        uint4 w = b[u][j].words;
        multiplyTensors(sum[j], low.x, high.x, low.y, high.y, w.x, w.y);
        multiplyTensors(sum[j], low.z, high.z, low.w, high.w, w.z, w.w);
      }
      if (!p.normed) continue;
#pragma unroll
      for (int half = 0; half < 2; half++) {
        float x[8];
        unpack(a[u][half], x);
#pragma unroll
        for (int e = 0; e < 8; e++) square[half] += x[e] * x[e];
      }
    }
  }
#pragma unroll
  for (int half = 0; half < 2; half++) {
    int row = 8 * half + g;
    float s = square[half];
    s += __shfl_xor_sync(FULL, s, 1);
    s += __shfl_xor_sync(FULL, s, 2);
    if (t == 0) squares[row] = s;
#pragma unroll
    for (int j = 0; j < TILES; j++) {
      sums[row * TILES * TILE + j * TILE + 2 * t] = sum[j][2 * half];
      sums[row * TILES * TILE + j * TILE + 2 * t + 1] = sum[j][2 * half + 1];
    }
  }
}
#else
#define MAX_TILES 1

// The same in float32, for accuracy and not for speed: lane 4g + t has column g and 8 of each chunk's k.
template <int TILES>
__device__ inline void multiplySlice(const Product &p, int firstRow, int firstTile, int slice, float *sums,
                                     float *squares) {
  int lane = threadIdx.x % WARP, g = lane / 4, t = lane % 4, chunks = (p.k + CHUNK - 1) / CHUNK;
  int column = TILE * firstTile + g;
  const activation *weight = p.w + (long long)weightRow(p, column) * p.k;
  float sum[16], square[16];
#pragma unroll
  for (int i = 0; i < 16; i++) sum[i] = square[i] = 0.0f;
  for (int chunk = slice; chunk < chunks; chunk += 1 << p.plan.sliceBits) {
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

// An estimate of the cycles of a product on an H100, as far as they depend on the plan: what the blocks read from the L2
// cache, together or each alone; what the warps of a block load, rows and weights; and how often a warp waits for its loads.
__device__ inline float cyclesOf(const Plan &plan, int chunks) {
  int groups = DECODE_WARPS >> plan.sliceBits, ofWarp = (chunks + (1 << plan.sliceBits) - 1) >> plan.sliceBits;
  int blocks = (plan.items + groups - 1) / groups, rounds = (blocks + (int)gridDim.x - 1) / (int)gridDim.x;
  int bands = min(groups, plan.bands), sets = max(1, groups / plan.bands);
  int ofBlock = (16 * bands + TILE * plan.tiles * sets) * chunks; // pieces of 64 bytes: all blocks read 44 a cycle, one block 0.5
  float read = max((float)blocks / 44, (float)rounds * 2) * ofBlock;
  return read + (float)rounds * (groups * chunks * (2 + plan.tiles) * 8 + ofWarp * 270);
}

// One warp for each item, or more, as far as there are warps and chunks.
__device__ inline Plan planWith(int tiles, const Product &p, int bands) {
  int chunks = (p.k + CHUNK - 1) / CHUNK, columnTiles = (p.n + TILE - 1) / TILE, warps = DECODE_WARPS * gridDim.x;
  Plan plan = {bands, tiles, (columnTiles + tiles - 1) / tiles * bands, 0, 1.0f / bands};
  while (2 << plan.sliceBits <= min(DECODE_WARPS, chunks) && (2 << plan.sliceBits) * plan.items <= warps)
    plan.sliceBits++;
  return plan;
}

// The faster plan: many rows may be read once for several tiles.
__device__ inline Plan planOf(const Product &p) {
  int bands = (p.m + 15) / 16, chunks = (p.k + CHUNK - 1) / CHUNK;
  Plan best = planWith(1, p, bands);
  for (int tiles = 2; bands > 1 && tiles <= MAX_TILES; tiles++) {
    Plan plan = planWith(tiles, p, bands);
    if (cyclesOf(plan, chunks) < cyclesOf(best, chunks)) best = plan;
  }
  return best;
}

// A warp's item of a product, its results by pairs of columns, and the sums of the slices.
struct Item {
  int firstRow, firstColumn, tiles;
  int count, first;      // all pairs, by tile, four a row; this thread's first one, the next 32·slices further
  float *sums, *squares; // [slices, 16, 8·tiles] and [slices, 16]

  __device__ int rowInBand(int i) const { return i / 4 % 16; }
  __device__ int row(int i) const { return firstRow + rowInBand(i); }
  __device__ int columnInItem(int i) const { return i / 64 * TILE + i % 4; }
  __device__ int column(int i) const { return firstColumn + columnInItem(i); }
};

// Items with the same weights go to one block, which reads them once; items of a single band are spread over all blocks.
__device__ inline Item itemOf(const Product &p, int base, float *scratch) {
  const Plan &plan = p.plan;
  int groups = DECODE_WARPS >> plan.sliceBits, group = threadIdx.x / WARP >> plan.sliceBits, band = 0;
  int set = base + group * gridDim.x + blockIdx.x, width = TILE * plan.tiles, threads = WARP << plan.sliceBits;
  bool exists = set < plan.items;
  if (plan.bands > 1) {
    int item = base + blockIdx.x * groups + group;
    exists = item < plan.items;
    set = quotient(item, plan.perBand);
    band = item - set * plan.bands;
  }
  float *sums = scratch + (group << plan.sliceBits) * 16 * (width + 1);
  return {band * 16,
          set * width,
          plan.tiles,
          !exists ? 0 : plan.tiles == 1 ? 4 * min(16, p.m - band * 16) : 64 * plan.tiles,
          (int)threadIdx.x & (threads - 1),
          sums,
          sums + (16 * width << plan.sliceBits)};
}

// The data loaded for a pair of columns before its product is known, unconverted: a conversion would wait for the load.
typedef uint2 Fetched;
__device__ inline unsigned rawOf(float x) { return __float_as_uint(x); }
__device__ inline unsigned rawOf(bf16 x) { return x; }
__device__ inline float activationOf(unsigned raw) {
#if ACTIVATIONS_BF16
  return toFloat((bf16)raw);
#else
  return __uint_as_float(raw);
#endif
}

// A product by the whole grid: finish(row, column, y, yFour, fetched) is called once for each row and each pair of columns
// `column` and column + 4 of a tile, with what fetch(row, column) has loaded, mostly while the product is computed. p is in
// shared memory, and so is `scratch`, for DECODE_WARPS · 16 · (8·MAX_TILES + 1) floats. Ends with a barrier of the block.
template <class Fetch, class Finish>
__device__ inline void product(const Product &p, float *scratch, Fetch fetch, Finish finish) {
  for (int base = 0; base < p.plan.items; base += (DECODE_WARPS >> p.plan.sliceBits) * gridDim.x) {
    Fetched fetched = {0u, 0u};
    Item before = itemOf(p, base, scratch);
    int first = before.first;
    if (first < before.count && before.row(first) < p.m && before.column(first) < p.n)
      fetched = fetch(before.row(first), before.column(first));
    if (before.count > 0) {
      int slice = threadIdx.x / WARP & ((1 << p.plan.sliceBits) - 1), tile = before.firstColumn / TILE;
      float *sums = before.sums + slice * 16 * TILE * before.tiles, *squares = before.squares + slice * 16;
      if (before.tiles == 1) multiplySlice<1>(p, before.firstRow, tile, slice, sums, squares);
#if MAX_TILES > 1
      if (before.tiles == 2) multiplySlice<2>(p, before.firstRow, tile, slice, sums, squares);
      if (before.tiles == 3) multiplySlice<3>(p, before.firstRow, tile, slice, sums, squares);
#endif
    }
    __syncthreads();
    Item item = itemOf(p, base, scratch); // again, so that it takes no registers in between
    int slices = 1 << p.plan.sliceBits, width = TILE * item.tiles;
    for (int i = item.first; i < item.count; i += slices * WARP) {
      int inBand = item.rowInBand(i), row = item.row(i), column = item.column(i);
      if (row >= p.m || column >= p.n) continue;
      if (i != item.first) fetched = fetch(row, column);
      float y = 0.0f, yFour = 0.0f, square = 0.0f;
      const float *sum = item.sums + inBand * width + item.columnInItem(i);
#pragma unroll 4
      for (int s = 0; s < slices; s++) {
        y += sum[s * 16 * width];
        yFour += sum[s * 16 * width + 4];
        square += item.squares[s * 16 + inBand];
      }
      float scale = p.normed ? rsqrtf(square * p.perK + NORM_EPSILON) : 1.0f;
      finish(row, column, y * scale, yFour * scale, fetched);
    }
    __syncthreads();
  }
}
