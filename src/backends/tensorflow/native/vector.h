/**
 * Sixteen floats at a time, by the vector extensions of g++ and clang++: the same source for every width of register.
 * Functions marked EVERY_CPU are compiled for three generations of processors; the first call picks the machine's.
 */
#pragma once
#include <cstdint>
#include <cstring>
#include <limits>

#define EVERY_CPU __attribute__((target_clones("avx512f", "avx2", "default")))
#define INLINE inline __attribute__((always_inline))

constexpr int LANES = 16;
typedef float Vector __attribute__((vector_size(4 * LANES)));
typedef int32_t Integers __attribute__((vector_size(4 * LANES)));

INLINE Vector all(float value) { return Vector{} + value; }

/** The next LANES elements of which only `left` exist; `fill` stands for the others. */
INLINE Vector load(const float* from, int64_t left, float fill = 0) {
  Vector v = all(fill);
  if (left >= LANES)
    std::memcpy(&v, from, sizeof v);
  else
    std::memcpy(&v, from, left * sizeof(float));
  return v;
}

INLINE void store(float* to, Vector v, int64_t left) {
  if (left >= LANES)
    std::memcpy(to, &v, sizeof v);
  else
    std::memcpy(to, &v, left * sizeof(float));
}

/** The lanes' sum, always in the same order. */
INLINE float sum(Vector v) {
  float total = 0;
  for (int i = 0; i < LANES; i++) total += v[i];
  return total;
}

INLINE Vector larger(Vector a, Vector b) { return a > b ? a : b; }

INLINE float largest(Vector v) {
  float top = v[0];
  for (int i = 1; i < LANES; i++) top = v[i] > top ? v[i] : top;
  return top;
}

/**
 * e^x to about one unit in the last place: x = n·ln 2 + r, a polynomial for e^r (Cephes' expf), n added to the exponent.
 * Infinity, 0 and NaN where they belong; results below float32's normal numbers are 0.
 */
INLINE Vector exponential(Vector x) {
  const float ROUND = 12582912;  // 1.5·2^23: what is added to it is rounded to a whole number
  const float INFINITE = std::numeric_limits<float>::infinity();
  Vector shifted = x * 1.44269504088896341f + ROUND;
  Vector n = shifted - ROUND;
  Vector r = x - n * 0.693359375f + n * 2.12194440e-4f;
  Vector p = all(1.9875691500e-4f);
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * r * r + r + 1.0f;
  Vector power = (Vector)((Integers)p + ((Integers)shifted << 23));
  // One comparison a choice: g++ 12 takes apart, lane by lane, what combines two.
  power = x <= all(88.7228f) ? power : x + INFINITE;  // NaN stays NaN
  return x < all(-87.3365f) ? all(0) : power;
}
