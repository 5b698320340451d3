// Rotary positions, in place: turns the pairs (x_i, x_{i + K/2}) of every head of q and k by the angle of their position;
// v stays. qkv [tokens, 3, H, K]; table [P, K], a row K/2 cosines, then K/2 sines; positions [tokens], or none: the
// token's place in its sequence of n. direction -1 turns back, which is the gradient.
// A thread takes V pairs of one head; grid: tokens · 2H · K/2 / (V · threads).

template <int V>
__device__ void turn(activation *qkv, const float *table, const int *positions, int tokens, int n, int heads, int size,
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
    turn<V>(qkv, table, positions, tokens, n, heads, size, direction);                                                \
  }
FOR_EACH_WIDTH(ROTARY)
