// Decoding steps, whole and one after another, in one kernel: a token of each of S sequences through all blocks, what follows
// drawn, and again with that. A grid of as many blocks as multiprocessors stays for all of it and meets at barriers, five a
// layer: between them every phase is one product or attention with all that can be fused into it. At batch 1 that is what
// counts: a barrier takes a microsecond, a launched kernel several, a round trip to the host ten. Whether a token goes
// through a routed block is decided on the way, by every block for itself (batch 1) or each token by one of them: where none
// goes through, the block's phases do not happen at all, and where some do, rows are theirs alone.
// Must be launched so that all blocks are resident together (cuLaunchCooperativeKernel).

#include "gate.cu"
#include "decode-barrier.cu"
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
  float *partials;        // [blocks, K + 2], of heads whose keys several blocks share
  unsigned *arrived;      // at the grid's barrier; 0 at first, and so are the counters [2, blocks] behind it
  double topP;
  int layerCount, routedCount, sequences, steps, D, heads, F, V, P, gate;
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
  unsigned shared;          // phases so far in which blocks shared a head's keys
};

// Both at hand in shared memory: a barrier of the grid empties the first-level cache, and with it the kernel's parameters
// where they are read through a reference.
__shared__ Decode d;
__shared__ Kept kept;
__shared__ Product products[5]; // the last ones, by kind

__device__ void layOut(const Decode &given, float4 *shared) {
  for (int i = threadIdx.x; i < (int)(sizeof(Decode) / 8); i += blockDim.x)
    ((long long *)&d)[i] = ((const long long *)&given)[i];
  if (threadIdx.x < 5) products[threadIdx.x].m = 0; // none planned
  __syncthreads();
  if (threadIdx.x == 0) {
    kept.layers = (Layer *)shared;
    kept.lengths = (int *)(kept.layers + d.layerCount);
    kept.positions = kept.lengths + d.layerCount * d.sequences;
    kept.all = kept.positions + d.sequences;
    kept.taken = kept.all + d.sequences;
    kept.gates = (float *)(kept.taken + d.sequences);
    // On the next 16 bytes: float4 is counted from the beginning.
    kept.scratch = (float *)(shared + ((char *)(kept.gates + d.sequences) - (char *)shared + 15) / 16);
    kept.awaited = kept.shared = 0;
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

// Waits for all blocks; what each has written before, all read afterwards.
__device__ inline void awaitGrid() {
  __syncthreads();
  if (threadIdx.x == 0) {
    unsigned *arrived = d.arrived, awaited = kept.awaited + gridDim.x; // in registers: nothing else between two looks
    arrive(arrived);
    kept.awaited = awaited;
    while (arrivedSoFar(arrived) < awaited) {
    }
  }
  __syncthreads();
}

// A counter for each item of a phase, all 0. Clears those of the one before it for the one after it: there are barriers of the
// grid between them.
__device__ inline unsigned *freshCounters() {
  int own = kept.shared % 2, blocks = gridDim.x;
  unsigned *sets = d.arrived + 1;
  __syncthreads();
  if (threadIdx.x == 0) kept.shared += 1;
  if (blockIdx.x == 0) {
    for (int i = threadIdx.x; i < blocks; i += DECODE_THREADS) sets[(1 - own) * blocks + i] = 0;
  }
  return sets + own * blocks;
}

__device__ inline void embed(int sequence, int token) {
  for (int i = threadIdx.x; i < d.D; i += blockDim.x)
    assign(d.x[(long long)sequence * d.D + i], d.embedding[(long long)token * d.D + i]);
}

#define UNITS_AHEAD 4 // of the predictor: those of a warp whose loads are under way together

// One block: {1 if a token goes through the layer, its router weight}, known to every thread. The predictor decides if
// there is one, fc2·gelu(fc1·x + bias) + bias > 0, else the router weight. Each warp takes every so-many-th unit, and each
// thread its columns of the router.
__device__ float2 decide(const Layer &layer, const activation *x, float *scratch) {
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
__device__ __noinline__ int choose(const Layer &layer, int routed, int step) {
  __shared__ int count;
  float2 *decisions = d.decisions + (long long)routed * d.sequences;
  float2 own = make_float2(0.0f, 0.0f);
  if (d.sequences == 1) {
    own = decide(layer, d.x, kept.scratch);
  } else {
    for (int s = blockIdx.x; s < d.sequences; s += gridDim.x) {
      float2 decision = decide(layer, d.x + (long long)s * d.D, kept.scratch);
      if (threadIdx.x == 0) decisions[s] = decision;
    }
    awaitGrid();
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
        kept.gates[place] = gateValue(d.gate, decision.y);
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

// The products of a layer, in order, and the logits'.
#define HEADS 0  // q, k and v, turned by their positions; k and v into the cache
#define OUT 1    // branch = out(attended), middle = x + branch
#define UP 2     // hidden = gelu(up(norm(middle)))
#define DOWN 3   // x = middle + down(hidden), or x + gate·(branch + down(hidden)) in a routed layer
#define LOGITS 4 // of all sequences

__device__ inline Product productOf(int kind, const Pass &pass, const Layer &layer) {
  int D = d.D;
  if (kind == HEADS) {
    int size = D / d.heads;
    return {d.x, pass.rows, pass.m, layer.qkv, 3 * D, D, 1, size, 1.0f / size, 1.0f / D, {}};
  }
  if (kind == OUT) return {d.attended, 0, pass.m, layer.out, D, D, 0, 0, 0.0f, 0.0f, {}};
  if (kind == UP) return {d.middle, 0, pass.m, layer.up, d.F, D, 1, 0, 0.0f, 1.0f / D, {}};
  if (kind == DOWN) return {d.hidden, 0, pass.m, layer.down, D, d.F, 0, 0, 0.0f, 0.0f, {}};
  return {d.x, 0, pass.m, d.head, d.V, D, 1, 0, 0.0f, 1.0f / D, {}};
}

// A weight and how many elements it has.
struct Matrix {
  const activation *at;
  long long elements;
};

// Starts to bring a weight into the second-level cache, the blocks a part each: what the next phase reads can be on its way
// while this one works and waits. No more than a few megabytes: the cache holds tens.
#define LARGEST_PREFETCH (8ll << 20)
__device__ inline void prefetchWeight(const Matrix &weight) {
  long long bytes = min(weight.elements * (long long)sizeof(activation), LARGEST_PREFETCH);
  int rank = threadIdx.x % WARP * DECODE_WARPS + threadIdx.x / WARP; // a warp's threads ask one after another: a few of each
  for (long long at = ((long long)rank * gridDim.x + blockIdx.x) * PREFETCHED; at < bytes;
       at += (long long)blockDim.x * gridDim.x * PREFETCHED)
    prefetchBytes((const char *)weight.at + at, (unsigned)min((long long)PREFETCHED, bytes - at));
}

// The first weight that is sure to be read after layer l: of the next dense layer, else the logits'.
__device__ inline Matrix followingWeight(int l) {
  int next = l + 1;
  while (next < d.layerCount && kept.layers[next].router != 0) next++;
  if (next < d.layerCount) return {kept.layers[next].qkv, 3ll * d.D * d.D};
  return {d.head, (long long)d.V * d.D};
}

// The weight to bring nearer while a product is made: attention's is `up`, which leaves `down` to the product after it.
__device__ inline Matrix weightAfter(int kind, int l, const Layer &layer) {
  if (kind == HEADS) return {layer.out, (long long)d.D * d.D};
  if (kind == OUT) return {layer.down, (long long)d.F * d.D};
  if (kind == DOWN) return {0, 0};
  return followingWeight(kind == UP ? l : -1);
}

__device__ inline void finishHeads(const Pass &pass, const Layer &layer, int row, int column, float a, float b,
                                   float cosine, float sine) {
  const Product &p = products[HEADS];
  int size = p.pairedSize, head = quotient(column, p.perPaired), i = placeInHead(column - head * size, size);
  int sequence = pass.rows[row];
  if (head < 2 * d.heads) {
    float first = a;
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
}

// One copy for all products, inlined: a function that is called saves registers in memory, and a barrier waits for that.
__device__ inline void project(int kind, const Pass &pass) {
  const Layer &layer = kept.layers[kind == LOGITS ? 0 : pass.l];
  if (threadIdx.x == 0) {
    Product next = productOf(kind, pass, layer);
    next.plan = products[kind].m == pass.m ? products[kind].plan : planOf(next); // seldom anew
    products[kind] = next;
  }
  prefetchWeight(weightAfter(kind, pass.l, layer));
  __syncthreads();
  auto fetch = [&](int row, int column) {
    Fetched before = {0u, 0u};
    if (kind == HEADS) {
      const Product &p = products[HEADS];
      int size = p.pairedSize, i = placeInHead(column - quotient(column, p.perPaired) * size, size);
      const float *angles = d.table + (long long)kept.positions[pass.rows[row]] * size + i;
      before = {rawOf(angles[0]), rawOf(angles[size / 2])};
    } else if (kind == OUT) {
      const activation *x = d.x + (long long)pass.rows[row] * d.D + column;
      before = {rawOf(x[0]), rawOf(x[4])};
    } else if (kind == DOWN) {
      const activation *added = (layer.router == 0 ? d.middle : d.branch) + (long long)row * d.D + column;
      before = {rawOf(added[0]), rawOf(added[4])};
    }
    return before;
  };
  product(products[kind], kept.scratch, fetch,
          [&](int row, int column, float a, float b, const Fetched &raw) {
            if (kind == HEADS) {
              finishHeads(pass, layer, row, column, a, b, __uint_as_float(raw.x), __uint_as_float(raw.y));
            } else if (kind == OUT) {
              long long at = (long long)row * d.D + column;
              assign(d.middle[at], activationOf(raw.x) + a);
              assign(d.middle[at + 4], activationOf(raw.y) + b);
              if (layer.router == 0) return;
              assign(d.branch[at], a);
              assign(d.branch[at + 4], b);
            } else if (kind == UP) {
              activation *hidden = d.hidden + (long long)row * d.F + column;
              assign(hidden[0], geluOf(a));
              assign(hidden[4], geluOf(b));
            } else if (kind == DOWN) {
              activation *x = d.x + (long long)pass.rows[row] * d.D + column;
              bool routed = layer.router != 0;
              float gate = routed ? kept.gates[row] : 1.0f;
              float x0 = routed ? toFloat(x[0]) : 0.0f, x4 = routed ? toFloat(x[4]) : 0.0f;
              assign(x[0], x0 + gate * (activationOf(raw.x) + a));
              assign(x[4], x4 + gate * (activationOf(raw.y) + b));
            } else {
              float *logits = d.logits + (long long)row * d.V + column;
              logits[0] = a;
              if (column + 4 < d.V) logits[4] = b;
            }
          });
}

__device__ inline void attend(const Pass &pass) {
  const Layer &layer = kept.layers[pass.l];
  int *lengths = kept.lengths + pass.l * d.sequences;
  prefetchWeight({layer.up, (long long)d.F * d.D});
  unsigned *counters = mostParts(pass.m, d.heads) > 1 ? freshCounters() : 0;
  attendCached({d.query, layer.cache, pass.rows, lengths, d.attended, pass.m, d.heads, d.D / d.heads, (int)layer.room},
               kept.scratch, d.partials, counters);
  for (int i = threadIdx.x; i < pass.m; i += blockDim.x) lengths[pass.rows[i]] += 1;
}

// Reads tokens, positions and lengths and leaves them as they are after `steps` tokens a sequence. Any grid of blocks that
// are resident together; shared memory as layOut takes it, then the largest scratch of a phase.
extern "C" __global__ void __launch_bounds__(DECODE_THREADS, 1) decodeTokens(const __grid_constant__ Decode given) {
  extern __shared__ float4 shared[];
  layOut(given, shared);
  for (int s = blockIdx.x; s < d.sequences; s += gridDim.x) embed(s, d.tokens[s]);
  awaitGrid();
  for (int step = 0; step < d.steps; step++) {
    for (int l = 0, routed = 0; l <= d.layerCount; l++) {
      bool isLayer = l < d.layerCount;
      Pass pass = {l, d.sequences, kept.all};
      if (isLayer && kept.layers[l].router != 0) {
        pass.rows = kept.taken;
        pass.m = choose(kept.layers[l], routed++, step);
      }
      if (pass.m == 0) continue;
      for (int kind = isLayer ? HEADS : LOGITS; kind <= (isLayer ? DOWN : LOGITS); kind++) {
        project(kind, pass);
        awaitGrid();
        if (kind != HEADS) continue;
        attend(pass);
        awaitGrid();
      }
    }

    for (int s = blockIdx.x; s < d.sequences; s += gridDim.x) {
      long long draw = (long long)step * d.sequences + s;
      int token = drawToken(d.logits + (long long)s * d.V, d.V, d.temperature, d.topP, d.uniforms[draw]);
      if (threadIdx.x == 0) d.drawn[draw] = d.tokens[s] = token;
      embed(s, token);
    }
    for (int i = threadIdx.x; i < d.sequences; i += blockDim.x) kept.positions[i] += 1;
    awaitGrid();
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
