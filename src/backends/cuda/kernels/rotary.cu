// Rotary positions, in place: rotates the pairs (x_i, x_{i + K/2}) of every head of q and k by the angle a_i of the position:
//   (x, y) → (x·cos a - y·sin a, y·cos a + x·sin a). direction -1 rotates back, which is the gradient.
// Reads table [P, K], whose rows are K/2 cosines, then K/2 sines, and positions [tokens]; null: the token's index in its
// sequence of n. Reads and writes q and k of qkv [tokens, 3, H, K].
// A thread processes V pairs of one head; grid: tokens · 2H · K/2 / (V · threads).

template <int V>
__device__ void rotatePairs(activation *qkv, const float *table, const int *positions, int tokens, int n, int heads, int size,
                     float direction) {
  int half = size / 2, groups = half / V;
  long long id = (long long)blockIdx.x * blockDim.x + threadIdx.x;
  int group = id % groups, head = id / groups % (2 * heads);
  long long token = id / groups / (2 * heads);
  if (token >= tokens) return;
  int position = positions != 0 ? positions[token] : (int)(token % n);
  const float *angles = table + (long long)position * size + group * V;
  activation *first = qkv + (token * 3 * heads + head) * size + group * V; // q's heads, then k's
  float a[V], b[V], cosine[V], sine[V];
  load<V>(first, a);
  load<V>(first + half, b);
  load<V>(angles, cosine);
  load<V>(angles + half, sine);
#pragma unroll
  for (int j = 0; j < V; j++) {
    float x = a[j], y = b[j], s = sine[j] * direction;
    a[j] = x * cosine[j] - y * s;
    b[j] = y * cosine[j] + x * s;
  }
  store<V>(first, a);
  store<V>(first + half, b);
}

#define ROTARY(V)                                                                                                     \
  extern "C" __global__ void rotary##V(activation *qkv, const float *table, const int *positions, int tokens, int n,  \
                                       int heads, int size, float direction) {                                        \
    rotatePairs<V>(qkv, table, positions, tokens, n, heads, size, direction);                                         \
  }
FOR_EACH_WIDTH(ROTARY)
