// Decoding steps in one kernel: for each step, one token of each of S sequences passes through all layers, the next token is
// drawn from its logits, and the next step reads it. With a = attention(norm(x)) and f(x) = a + mlp(norm(x + a)), a dense layer
// gives x + f(x), a routed one x + gate(r)·f(x) for a selected token and x for the others.
// Grid: a block of 512 threads on each multiprocessor, all resident at once (cuLaunchCooperativeKernel), which stay for all
// steps and wait for each other at barriers, five per layer. Between barriers, a phase is one product or attention with all that
// can be fused into it. This is fast at batch 1, where a barrier takes 1 µs, a kernel launch several, and a round trip to the
// host 10. The routing decision of a token is computed by every block (S = 1) or by one block for each token. If no token is
// selected, the layer's phases are skipped; otherwise they process the selected rows only.
// Reads the weights, and tokens, positions, lengths and caches of the start; writes the drawn tokens, the mask of selected
// tokens, the last logits, and tokens, positions, lengths and caches for the next launch.

#include "gate.cu"
#include "decode-barrier.cu"
#include "decode-products.cu"
#include "decode-attention.cu"
#include "decode-sampling.cu"

// A layer of the model. Weights after a norm are multiplied by its gains, column by column.
struct Layer {
  const activation *qkv;  // [3D, D]
  const activation *out;  // [D, D]
  const activation *up;   // [F, D]
  const activation *down; // [D, F]
  activation *cache;      // [S, 2, H, slots, K]
  const float *router;    // [D]; null in a dense layer
  const activation *fc1;  // of the predictor, [P, D]; null if the router decides
  const float *fc1Bias, *fc2, *fc2Bias;
  long long slots;
  float above;            // a token is selected if what decides is above this
  float padding;
};

struct Decode {
  const Layer *layers;
  const float *embedding; // [V, D]
  const activation *head; // [V, D]
  const float *table;     // rotary angles [.., K]
  const double *uniforms; // [steps, S]
  int *tokens;            // [S]: the next input tokens
  int *positions;         // [S]: of `tokens`
  int *lengths;           // [layers, S]: tokens in the caches
  int *drawn;             // [steps, S]
  int *mask;              // [steps, routed layers, S]: 1 for a selected token, else 0
  activation *x;          // [S, D], the residual stream
  activation *query;      // [S, D]; this and those below have a row for each token that the layer processes
  activation *attended;   // [S, D]
  activation *branch;     // [S, D]: attention(norm(x))
  activation *middle;     // [S, D]: x + attention(norm(x))
  activation *hidden;     // [S, F]
  float *logits;          // [S, V]
  float2 *decisions;      // [routed layers, S]: 1 for a selected token, else 0; and its router weight
  float *partials;        // [blocks, K + 2], for heads whose keys several blocks share
  unsigned *arrived;      // arrivals at the grid's barrier, then counters [2, blocks]; all 0 at first
  double topP;
  int layerCount, routedCount, sequences, steps, D, heads, F, V, P, gate;
  float temperature;
  float residual; // factor of the outputs of attention and MLP
};

// What a block of threads keeps in shared memory for all steps. The lengths are the same in every block.
struct Kept {
  Layer *layers;
  int *lengths, *positions; // as in Decode
  int *all, *selected;      // sequences: 0, 1, 2, ..., and those whose token a routed layer processes
  float *gates;             // of the selected
  float *scratch;           // of a phase
  unsigned awaited;         // arrivals of all blocks at past barriers
  unsigned shared;          // past phases in which blocks shared a head's keys
};

// In shared memory: a barrier of the grid empties the L1 cache, and with it the kernel's parameters if they are read through a
// reference.
__shared__ Decode d;
__shared__ Kept kept;
__shared__ Product products[5]; // the latest, by kind

// Fills the shared memory. decode.ts computes its size.
__device__ void layOut(const Decode &given, float4 *shared) {
  for (int i = threadIdx.x; i < (int)(sizeof(Decode) / 8); i += blockDim.x)
    ((long long *)&d)[i] = ((const long long *)&given)[i];
  if (threadIdx.x < 5) products[threadIdx.x].m = 0; // no plan yet
  __syncthreads();
  if (threadIdx.x == 0) {
    kept.layers = (Layer *)shared;
    kept.lengths = (int *)(kept.layers + d.layerCount);
    kept.positions = kept.lengths + d.layerCount * d.sequences;
    kept.all = kept.positions + d.sequences;
    kept.selected = kept.all + d.sequences;
    kept.gates = (float *)(kept.selected + d.sequences);
    // Aligned to 16 bytes.
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

// A barrier of the grid: after it, all blocks see what each has written before it.
__device__ inline void awaitGrid() {
  __syncthreads();
  if (threadIdx.x == 0) {
    unsigned *arrived = d.arrived, awaited = kept.awaited + gridDim.x; // in registers, for a short polling loop
    arrive(arrived);
    kept.awaited = awaited;
    while (arrivals(arrived) < awaited) {
    }
  }
  __syncthreads();
}

// A counter for each item of a phase, all 0. Clears those of the previous phase for the next one, as there are barriers of the
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

#define UNITS_AHEAD 4 // units of the predictor whose loads a warp has in flight together

// By one block: {1 if the token is selected, else 0; its router weight}, returned to every thread. A token is selected if the
// predictor's logit fc2·gelu(fc1·x + bias) + bias is above layer.above, or without a predictor, if the router weight is. The
// warps stride over the predictor's units, the threads over the router's columns.
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
  return make_float2((units > 0 ? logit : weight) > layer.above ? 1.0f : 0.0f, weight);
}

// Fills kept.selected and kept.gates for a routed layer. Returns the number of selected tokens, the same in every block.
__device__ __noinline__ int selectTokens(const Layer &layer, int routed, int step) {
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
      bool isSelected = decision.x != 0.0f;
      unsigned all = __ballot_sync(FULL, isSelected);
      if (isSelected) {
        int index = found + __popc(all & ((1u << lane) - 1));
        kept.selected[index] = s;
        kept.gates[index] = gateValue(d.gate, decision.y);
      }
      if (blockIdx.x == 0 && s < d.sequences)
        d.mask[((long long)step * d.routedCount + routed) * d.sequences + s] = isSelected;
      found += __popc(all);
    }
    if (lane == 0) count = found;
  }
  __syncthreads();
  int selected = count;
  __syncthreads(); // count is read before the next call writes it
  return selected;
}

// The m tokens that layer l processes, of the sequences `rows`.
struct Pass {
  int l, m;
  const int *rows;
};

// The products of a layer, in order, and that of the logits.
#define HEADS 0  // q, k and v, q and k rotated by their positions; k and v go to the cache
#define OUT 1    // branch = out(attended), middle = x + branch
#define UP 2     // hidden = gelu(up(norm(middle)))
#define DOWN 3   // x = middle + down(hidden), in a routed layer x + gate·(branch + down(hidden))
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

// A weight and its number of elements.
struct Matrix {
  const activation *at;
  long long elements;
};

// Starts to load a weight into the L2 cache, each block a part of it, for a later phase. At most a few megabytes, as the cache
// holds tens.
#define LARGEST_PREFETCH (8ll << 20)
__device__ inline void prefetchWeight(const Matrix &weight) {
  long long bytes = min(weight.elements * (long long)sizeof(activation), LARGEST_PREFETCH);
  int rank = threadIdx.x % WARP * DECODE_WARPS + threadIdx.x / WARP; // spread over the warps, as a warp issues them one after another
  for (long long at = ((long long)rank * gridDim.x + blockIdx.x) * PREFETCH_BYTES; at < bytes;
       at += (long long)blockDim.x * gridDim.x * PREFETCH_BYTES)
    prefetchBytes((const char *)weight.at + at, (unsigned)min((long long)PREFETCH_BYTES, bytes - at));
}

// The next weight after layer l that is certainly read: of the next dense layer, else of the logits.
__device__ inline Matrix followingWeight(int l) {
  int next = l + 1;
  while (next < d.layerCount && kept.layers[next].router != 0) next++;
  if (next < d.layerCount) return {kept.layers[next].qkv, 3ll * d.D * d.D};
  return {d.head, (long long)d.V * d.D};
}

// The weight to prefetch during a product. Attention prefetches `up`, and the product after it `down`.
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
    long long place = (((long long)sequence * 2 + which) * d.heads + own) * layer.slots;
    to = layer.cache + (place + kept.lengths[pass.l * d.sequences + sequence]) * size;
  }
  assign(to[i], a);
  assign(to[i + size / 2], b);
}

// One inlined copy for all products: a call saves registers to memory, for which a barrier waits.
__device__ inline void project(int kind, const Pass &pass) {
  const Layer &layer = kept.layers[kind == LOGITS ? 0 : pass.l];
  if (threadIdx.x == 0) {
    Product next = productOf(kind, pass, layer);
    next.plan = products[kind].m == pass.m ? products[kind].plan : planOf(next); // rarely a new one
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
              a *= d.residual;
              b *= d.residual;
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
              a *= d.residual;
              b *= d.residual;
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
  unsigned *counters = maxParts(pass.m, d.heads) > 1 ? freshCounters() : 0;
  attendCached({d.query, layer.cache, pass.rows, lengths, d.attended, pass.m, d.heads, d.D / d.heads, (int)layer.slots},
               kept.scratch, d.partials, counters);
  for (int i = threadIdx.x; i < pass.m; i += blockDim.x) lengths[pass.rows[i]] += 1;
}

// `steps` tokens of each sequence; tokens, positions and lengths are updated. Any grid of blocks that are all resident at once;
// shared memory as in layOut, then the largest scratch of a phase.
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
        pass.rows = kept.selected;
        pass.m = selectTokens(kept.layers[l], routed++, step);
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

// out = factor·w∘gain, column by column: a weight [n, k] with the gain [k] of the norm before it, stored as activations are. Eight
// elements of a thread.
extern "C" __global__ void foldGain(const float *w, const float *gain, activation *out, long long elements, int k,
                                    float factor) {
  long long i = ((long long)blockIdx.x * blockDim.x + threadIdx.x) * 8;
  if (i >= elements) return;
  float a[8], g[8];
  load<8>(w + i, a);
  load<8>(gain + i % k, g);
#pragma unroll
  for (int e = 0; e < 8; e++) a[e] *= g[e] * factor;
  store<8>(out + i, a);
}
