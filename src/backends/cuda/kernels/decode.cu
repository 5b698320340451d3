// Decoding steps, whole and one after another, in one kernel: a token of each of S sequences through all blocks, what follows
// drawn, and again with that. A grid of as many blocks as multiprocessors stays for all of it and meets at barriers, five a
// layer: between them every phase is one product or attention with all that can be fused into it. At batch 1 that is what
// counts: a barrier takes a microsecond, a launched kernel several, a round trip to the host ten. Whether a token goes
// through a routed block is decided on the way, by every block for itself (batch 1) or each token by one of them: where none
// goes through, the block's phases do not happen at all, and where some do, rows are theirs alone.
// Must be launched so that all blocks are resident together (cuLaunchCooperativeKernel).

#include "decode-products.cu"
#include "decode-attention.cu"
#include "decode-sampling.cu"

// A block of the model. Weights that follow a norm have its gains in them, column by column.
struct Layer {
  const activation *qkv;  // [3D, D]
  const activation *out;  // [D, D]
  const activation *up;   // [F, D]
  const activation *down; // [D, F]
  activation *cache;      // [S, 2, H, room, K]
  const float *router;    // [D]; none in a dense block
  const activation *fc1;  // the predictor's, [P, D]; none where the router decides
  const float *fc1Bias, *fc2, *fc2Bias;
  long long room;
};

struct Decode {
  const Layer *layers;
  const float *embedding; // [V, D]
  const activation *head; // [V, D]
  const float *table;     // of rotary positions [.., K]
  const double *uniforms; // [steps, S]
  int *tokens;            // [S]: read first, then those that follow
  int *positions;         // [S]: of `tokens`
  int *lengths;           // [layers, S]: tokens in the caches
  int *drawn;             // [steps, S]
  int *engaged;           // [steps, routed layers, S]: 1 where the token went through
  activation *x;          // [S, D], the residual stream
  activation *query;      // [S, D]; this and those below have a row for each token that goes through the block
  activation *attended;   // [S, D]
  activation *branch;     // [S, D]: attention(norm(x))
  activation *middle;     // [S, D]: x + attention(norm(x))
  activation *hidden;     // [S, F]
  float *logits;          // [S, V]
  float2 *decisions;      // [routed layers, S]: 1 where the token goes through, and its router weight
  unsigned *arrived;      // 0 at first
  double topP;
  int layerCount, routedCount, sequences, steps, D, heads, F, V, P, mostTiles, isSigmoid;
  float temperature;
};

// What a block of threads keeps in shared memory throughout. Every block has the same counts: all know every decision.
struct Kept {
  Layer *layers;
  int *lengths, *positions; // as Decode's
  int *all, *taken;         // rows of sequences: 0, 1, 2, ..., and those that go through a routed block
  float *gates;             // of the taken
  float *scratch;           // of a phase
  unsigned awaited;         // arrivals at barriers so far, of all blocks
};

__device__ void layOut(const Decode &d, float4 *shared, Kept &kept) {
  if (threadIdx.x == 0) {
    kept.layers = (Layer *)shared;
    kept.lengths = (int *)(kept.layers + d.layerCount);
    kept.positions = kept.lengths + d.layerCount * d.sequences;
    kept.all = kept.positions + d.sequences;
    kept.taken = kept.all + d.sequences;
    kept.gates = (float *)(kept.taken + d.sequences);
    // On the next 16 bytes: float4 is counted from the beginning.
    kept.scratch = (float *)(shared + ((char *)(kept.gates + d.sequences) - (char *)shared + 15) / 16);
    kept.awaited = 0;
  }
  __syncthreads();
  for (int i = threadIdx.x; i < d.layerCount * (int)(sizeof(Layer) / 8); i += blockDim.x)
    ((long long *)kept.layers)[i] = ((const long long *)d.layers)[i];
  for (int i = threadIdx.x; i < d.layerCount * d.sequences; i += blockDim.x) kept.lengths[i] = d.lengths[i];
  for (int i = threadIdx.x; i < d.sequences; i += blockDim.x) {
    kept.positions[i] = d.positions[i];
    kept.all[i] = i;
  }
  __syncthreads();
}

__device__ inline void arrive(unsigned *arrived) {
  asm volatile("red.release.gpu.global.add.u32 [%0], 1;" ::"l"(arrived) : "memory");
}
__device__ inline unsigned arrivedSoFar(const unsigned *arrived) {
  unsigned count;
  asm volatile("ld.acquire.gpu.global.u32 %0, [%1];" : "=r"(count) : "l"(arrived) : "memory");
  return count;
}

// Waits for all blocks; what each has written before, all read afterwards.
__device__ inline void awaitGrid(const Decode &d, Kept &kept) {
  __syncthreads();
  if (threadIdx.x == 0) {
    arrive(d.arrived);
    kept.awaited += gridDim.x;
    while (arrivedSoFar(d.arrived) < kept.awaited) {
    }
  }
  __syncthreads();
}

__device__ inline void embed(const Decode &d, int sequence, int token) {
  for (int i = threadIdx.x; i < d.D; i += blockDim.x)
    assign(d.x[(long long)sequence * d.D + i], d.embedding[(long long)token * d.D + i]);
}

#define UNITS_AHEAD 4 // of the predictor: those of a warp whose loads are under way together

// One block: {1 if a token goes through the layer, its router weight}, known to every thread. The predictor decides if
// there is one, fc2·gelu(fc1·x + bias) + bias > 0, else the router weight. Each warp takes every so-many-th unit, and each
// thread its columns of the router.
__device__ float2 decide(const Decode &d, const Layer &layer, const activation *x, float *scratch) {
  int warp = threadIdx.x / WARP, lane = threadIdx.x % WARP, units = layer.fc1 != 0 ? d.P : 0;
  float weight = 0.0f, logit = 0.0f;
  for (int i = threadIdx.x; i < d.D; i += blockDim.x) weight += toFloat(x[i]) * layer.router[i];
  for (int first = warp; first < units; first += UNITS_AHEAD * DECODE_WARPS) {
    float sum[UNITS_AHEAD], bias[UNITS_AHEAD], out[UNITS_AHEAD];
#pragma unroll
    for (int u = 0; u < UNITS_AHEAD; u++) {
      int unit = first + u * DECODE_WARPS;
      sum[u] = 0.0f;
      bias[u] = unit < units ? layer.fc1Bias[unit] : 0.0f;
      out[u] = unit < units ? layer.fc2[unit] : 0.0f;
    }
    for (int i = lane * 8; i < d.D; i += WARP * 8) {
      float a[8];
      Eight w[UNITS_AHEAD];
#pragma unroll
      for (int u = 0; u < UNITS_AHEAD; u++) {
        int unit = first + u * DECODE_WARPS;
        w[u] = NO_EIGHT;
        if (unit < units) w[u] = readWeight(layer.fc1 + (long long)unit * d.D + i);
      }
      unpack(readEight(x + i), a);
#pragma unroll
      for (int u = 0; u < UNITS_AHEAD; u++) {
        float b[8];
        unpack(w[u], b);
#pragma unroll
        for (int e = 0; e < 8; e++) sum[u] += a[e] * b[e];
      }
    }
#pragma unroll
    for (int u = 0; u < UNITS_AHEAD; u++) logit += geluOf(warpSum(sum[u]) + bias[u]) * out[u];
  }
  weight = warpSum(weight);
  if (lane == 0) {
    scratch[warp] = logit;
    scratch[DECODE_WARPS + warp] = weight;
  }
  __syncthreads();
  logit = units > 0 ? layer.fc2Bias[0] : 0.0f;
  weight = 0.0f;
  for (int w = 0; w < DECODE_WARPS; w++) {
    logit += scratch[w];
    weight += scratch[DECODE_WARPS + w];
  }
  __syncthreads();
  return make_float2((units > 0 ? logit : weight) > 0.0f ? 1.0f : 0.0f, weight);
}

// Fills kept.taken and kept.gates with the tokens that go through a routed layer; how many, the same in every block.
__device__ __noinline__ int choose(const Decode &d, Kept &kept, const Layer &layer, int routed, int step) {
  __shared__ int count;
  float2 *decisions = d.decisions + (long long)routed * d.sequences;
  float2 own = make_float2(0.0f, 0.0f);
  if (d.sequences == 1) {
    own = decide(d, layer, d.x, kept.scratch);
  } else {
    for (int s = blockIdx.x; s < d.sequences; s += gridDim.x) {
      float2 decision = decide(d, layer, d.x + (long long)s * d.D, kept.scratch);
      if (threadIdx.x == 0) decisions[s] = decision;
    }
    awaitGrid(d, kept);
  }
  if (threadIdx.x < WARP) {
    int lane = threadIdx.x, found = 0;
    for (int first = 0; first < d.sequences; first += WARP) {
      int s = first + lane;
      float2 decision = s >= d.sequences ? make_float2(0.0f, 0.0f) : d.sequences == 1 ? own : decisions[s];
      bool takes = decision.x != 0.0f;
      unsigned taking = __ballot_sync(FULL, takes);
      if (takes) {
        int place = found + __popc(taking & ((1u << lane) - 1));
        kept.taken[place] = s;
        kept.gates[place] = d.isSigmoid ? sigmoid(decision.y) : decision.y;
      }
      if (blockIdx.x == 0 && s < d.sequences)
        d.engaged[((long long)step * d.routedCount + routed) * d.sequences + s] = takes;
      found += __popc(taking);
    }
    if (lane == 0) count = found;
  }
  __syncthreads();
  int taken = count;
  __syncthreads(); // before somebody begins the next one
  return taken;
}

// The tokens that pass through layer l: m of them, of the sequences `rows`.
struct Pass {
  int l, m;
  const int *rows;
};

// q, k and v, turned by their positions; k and v into the cache.
__device__ __noinline__ void projectHeads(const Decode &d, Kept &kept, Pass pass) {
  const Layer &layer = kept.layers[pass.l];
  int size = d.D / d.heads;
  Product qkv = {d.x, pass.rows, pass.m, layer.qkv, 3 * d.D, d.D, 1, size};
  product(qkv, kept.scratch, d.mostTiles, [&](int row, int column, float a, float b) {
    int head = column / size, i = weightRow(column, size) - head * size, sequence = pass.rows[row];
    if (head < 2 * d.heads) {
      const float *angles = d.table + (long long)kept.positions[sequence] * size + i;
      float cosine = angles[0], sine = angles[size / 2], first = a;
      a = first * cosine - b * sine;
      b = b * cosine + first * sine;
    }
    activation *to = d.query + ((long long)row * d.heads + head) * size;
    if (head >= d.heads) {
      int which = head < 2 * d.heads ? 0 : 1, own = head - (which + 1) * d.heads;
      long long place = (((long long)sequence * 2 + which) * d.heads + own) * layer.room;
      to = layer.cache + (place + kept.lengths[pass.l * d.sequences + sequence]) * size;
    }
    assign(to[i], a);
    assign(to[i + size / 2], b);
  });
}

__device__ __noinline__ void attend(const Decode &d, Kept &kept, Pass pass) {
  const Layer &layer = kept.layers[pass.l];
  int *lengths = kept.lengths + pass.l * d.sequences;
  attendCached(d.query, layer.cache, pass.rows, lengths, d.attended, pass.m, d.heads, d.D / d.heads, (int)layer.room,
               kept.scratch);
  for (int i = threadIdx.x; i < pass.m; i += blockDim.x) lengths[pass.rows[i]] += 1;
}

// branch = out(attended), middle = x + branch
__device__ __noinline__ void projectOut(const Decode &d, Kept &kept, Pass pass) {
  const Layer &layer = kept.layers[pass.l];
  Product out = {d.attended, 0, pass.m, layer.out, d.D, d.D, 0, 0};
  product(out, kept.scratch, d.mostTiles, [&](int row, int column, float a, float b) {
    const activation *x = d.x + (long long)pass.rows[row] * d.D + column;
    int at = row * d.D + column;
    float x0 = toFloat(x[0]), x4 = toFloat(x[4]);
    assign(d.middle[at], x0 + a);
    assign(d.middle[at + 4], x4 + b);
    if (layer.router == 0) return;
    assign(d.branch[at], a);
    assign(d.branch[at + 4], b);
  });
}

// hidden = gelu(up(norm(middle)))
__device__ __noinline__ void projectUp(const Decode &d, Kept &kept, Pass pass) {
  Product up = {d.middle, 0, pass.m, kept.layers[pass.l].up, d.F, d.D, 1, 0};
  product(up, kept.scratch, d.mostTiles, [&](int row, int column, float a, float b) {
    activation *hidden = d.hidden + row * d.F + column;
    assign(hidden[0], geluOf(a));
    assign(hidden[4], geluOf(b));
  });
}

// x = middle + down(hidden), or x + gate·(branch + down(hidden)) in a routed layer
__device__ __noinline__ void projectDown(const Decode &d, Kept &kept, Pass pass) {
  const Layer &layer = kept.layers[pass.l];
  Product down = {d.hidden, 0, pass.m, layer.down, d.D, d.F, 0, 0};
  product(down, kept.scratch, d.mostTiles, [&](int row, int column, float a, float b) {
    activation *x = d.x + (long long)pass.rows[row] * d.D + column;
    int at = row * d.D + column;
    if (layer.router == 0) {
      assign(x[0], toFloat(d.middle[at]) + a);
      assign(x[4], toFloat(d.middle[at + 4]) + b);
    } else {
      float gate = kept.gates[row];
      assign(x[0], toFloat(x[0]) + gate * (toFloat(d.branch[at]) + a));
      assign(x[4], toFloat(x[4]) + gate * (toFloat(d.branch[at + 4]) + b));
    }
  });
}

__device__ __noinline__ void predict(const Decode &d, Kept &kept) {
  Product head = {d.x, 0, d.sequences, d.head, d.V, d.D, 1, 0};
  product(head, kept.scratch, d.mostTiles, [&](int row, int column, float a, float b) {
    float *logits = d.logits + (long long)row * d.V + column;
    logits[0] = a;
    if (column + 4 < d.V) logits[4] = b;
  });
}

// Reads tokens, positions and lengths and leaves them as they are after `steps` tokens a sequence. Any grid of blocks that
// are resident together; shared memory as layOut takes it, then the largest scratch of a phase.
extern "C" __global__ void __launch_bounds__(DECODE_THREADS, 1) decodeTokens(const __grid_constant__ Decode d) {
  extern __shared__ float4 shared[];
  __shared__ Kept kept;
  layOut(d, shared, kept);
  for (int s = blockIdx.x; s < d.sequences; s += gridDim.x) embed(d, s, d.tokens[s]);
  awaitGrid(d, kept);
  for (int step = 0; step < d.steps; step++) {
    for (int l = 0, routed = 0; l < d.layerCount; l++) {
      const int *rows = kept.all;
      int m = d.sequences;
      if (kept.layers[l].router != 0) {
        rows = kept.taken;
        m = choose(d, kept, kept.layers[l], routed++, step);
      }
      if (m == 0) continue;
      Pass pass = {l, m, rows};
      projectHeads(d, kept, pass);
      awaitGrid(d, kept);
      attend(d, kept, pass);
      awaitGrid(d, kept);
      projectOut(d, kept, pass);
      awaitGrid(d, kept);
      projectUp(d, kept, pass);
      awaitGrid(d, kept);
      projectDown(d, kept, pass);
      awaitGrid(d, kept);
    }
    predict(d, kept);
    awaitGrid(d, kept);

    for (int s = blockIdx.x; s < d.sequences; s += gridDim.x) {
      long long draw = (long long)step * d.sequences + s;
      int token = drawToken(d.logits + (long long)s * d.V, d.V, d.temperature, d.topP, d.uniforms[draw]);
      if (threadIdx.x == 0) d.drawn[draw] = d.tokens[s] = token;
      embed(d, s, token);
    }
    for (int i = threadIdx.x; i < d.sequences; i += blockDim.x) kept.positions[i] += 1;
    awaitGrid(d, kept);
  }
  if (blockIdx.x != 0) return;
  for (int i = threadIdx.x; i < d.layerCount * d.sequences; i += blockDim.x) d.lengths[i] = kept.lengths[i];
  for (int i = threadIdx.x; i < d.sequences; i += blockDim.x) d.positions[i] = kept.positions[i];
}

// out = w with the gain of the norm before it taken in: [n, k], stored as activations are. Eight elements a thread.
extern "C" __global__ void foldGain(const float *w, const float *gain, activation *out, long long elements, int k) {
  long long i = ((long long)blockIdx.x * blockDim.x + threadIdx.x) * 8;
  if (i >= elements) return;
  float a[8], g[8];
  load<8>(w + i, a);
  load<8>(gain + i % k, g);
#pragma unroll
  for (int e = 0; e < 8; e++) a[e] *= g[e];
  store<8>(out + i, a);
}
