// Passes over all elements: conversions, gelu, residual sums, biases, strided copies, and the operations of tfjs itself that
// training calls. Each kernel reads its const tensors of n elements and writes the other one.
// Grid: elements / (256 threads · elements of a thread).

// y = x in another storage. Four elements of a thread.
template <typename From, typename To> __device__ void convertElements(const From *x, To *y, long long n) {
  long long start = (long long)blockIdx.x * 1024 + threadIdx.x;
#pragma unroll
  for (int j = 0; j < 4; j++) {
    long long i = start + j * 256;
    if (i < n) assign(y[i], toFloat(x[i]));
  }
}
extern "C" __global__ void float32ToBfloat16(const float *x, bf16 *y, long long n) { convertElements(x, y, n); }
extern "C" __global__ void bfloat16ToFloat32(const bf16 *x, float *y, long long n) { convertElements(x, y, n); }
extern "C" __global__ void int32ToFloat32(const int *x, float *y, long long n) {
  long long start = (long long)blockIdx.x * 1024 + threadIdx.x;
  for (int j = 0; j < 4; j++) {
    long long i = start + j * 256;
    if (i < n) y[i] = (float)x[i];
  }
}
// Truncates, as tfjs' cast does.
extern "C" __global__ void float32ToInt32(const float *x, int *y, long long n) {
  long long start = (long long)blockIdx.x * 1024 + threadIdx.x;
  for (int j = 0; j < 4; j++) {
    long long i = start + j * 256;
    if (i < n) y[i] = (int)x[i];
  }
}

#define ELEMENTWISE(V)                                                                                                \
  /* y = gelu(x), the tanh approximation */                                                                           \
  extern "C" __global__ void gelu##V(const activation *x, activation *y, long long n) {                               \
    long long i = ((long long)blockIdx.x * blockDim.x + threadIdx.x) * V;                                             \
    if (i >= n) return;                                                                                               \
    float a[V];                                                                                                       \
    load<V>(x + i, a);                                                                                                \
    for (int j = 0; j < V; j++) a[j] = geluOf(a[j]);                                                                  \
    store<V>(y + i, a);                                                                                               \
  }                                                                                                                   \
  /* dx = dy·gelu'(x); dx may be dy */                                                                                \
  extern "C" __global__ void geluGrad##V(const activation *dy, const activation *x, activation *dx, long long n) {    \
    long long i = ((long long)blockIdx.x * blockDim.x + threadIdx.x) * V;                                             \
    if (i >= n) return;                                                                                               \
    float a[V], d[V];                                                                                                 \
    load<V>(x + i, a);                                                                                                \
    load<V>(dy + i, d);                                                                                               \
    for (int j = 0; j < V; j++) d[j] *= geluSlope(a[j]);                                                              \
    store<V>(dx + i, d);                                                                                              \
  }                                                                                                                   \
  /* sum = x + y; sum may be either */                                                                                \
  extern "C" __global__ void residual##V(const activation *x, const activation *y, activation *sum, long long n) {    \
    long long i = ((long long)blockIdx.x * blockDim.x + threadIdx.x) * V;                                             \
    if (i >= n) return;                                                                                               \
    float a[V], b[V];                                                                                                 \
    load<V>(x + i, a);                                                                                                \
    load<V>(y + i, b);                                                                                                \
    for (int j = 0; j < V; j++) a[j] += b[j];                                                                         \
    store<V>(sum + i, a);                                                                                             \
  }
FOR_EACH_WIDTH(ELEMENTWISE)

// y = x + bias[i mod width]
extern "C" __global__ void bias(const activation *x, const float *b, activation *y, long long n, int width) {
  long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) assign(y[i], toFloat(x[i]) + b[i % width]);
}
// The same of float32 numbers: a predictor's logits.
extern "C" __global__ void biasFloat(const float *x, const float *b, float *y, long long n, int width) {
  long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) y[i] = x[i] + b[i % width];
}

// x = value
extern "C" __global__ void fillFloat(float *x, float value, long long n) {
  long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) x[i] = value;
}

// z = x op y of two tensors of one shape; a single number has stride 0. The codes are those of tfjs.ts.
#define ADD 0
#define SUBTRACT 1
#define MULTIPLY 2
#define DIVIDE 3
#define GREATER 4
#define EQUAL 5
extern "C" __global__ void binaryFloat(const float *x, const float *y, float *z, long long n, int operation,
                                       int xStride, int yStride) {
  long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= n) return;
  float a = x[i * xStride], b = y[i * yStride];
  z[i] = operation == ADD        ? a + b
         : operation == SUBTRACT ? a - b
         : operation == MULTIPLY ? a * b
         : operation == DIVIDE   ? a / b
         : operation == GREATER  ? (a > b ? 1.0f : 0.0f)
                                 : (a == b ? 1.0f : 0.0f);
}

// to[i0, i1, i2, i3] = from[i0, i1, i2, i3]: blocks of up to four dimensions d, strides f and t in elements. For slices,
// concatenations and caches. One element of a thread.
template <typename T>
__device__ void stridedCopy(const T *from, T *to, long long n, int d1, int d2, int d3, long long f0, long long f1,
                            long long f2, long long f3, long long t0, long long t1, long long t2, long long t3) {
  long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= n) return;
  long long i3 = i % d3, i2 = i / d3 % d2, i1 = i / d3 / d2 % d1, i0 = i / d3 / d2 / d1;
  to[i0 * t0 + i1 * t1 + i2 * t2 + i3 * t3] = from[i0 * f0 + i1 * f1 + i2 * f2 + i3 * f3];
}
extern "C" __global__ void copyWords(const unsigned *from, unsigned *to, long long n, int d1, int d2, int d3,
                                     long long f0, long long f1, long long f2, long long f3, long long t0,
                                     long long t1, long long t2, long long t3) {
  stridedCopy(from, to, n, d1, d2, d3, f0, f1, f2, f3, t0, t1, t2, t3);
}
extern "C" __global__ void copyHalves(const bf16 *from, bf16 *to, long long n, int d1, int d2, int d3, long long f0,
                                      long long f1, long long f2, long long f3, long long t0, long long t1, long long t2,
                                      long long t3) {
  stridedCopy(from, to, n, d1, d2, d3, f0, f1, f2, f3, t0, t1, t2, t3);
}

// to = the first `width` of every `pitch` elements of `from`; n elements of `to`, one a thread.
extern "C" __global__ void packRows(const bf16 *from, bf16 *to, long long n, int width, int pitch) {
  long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) to[i] = from[i / width * pitch + i % width];
}
