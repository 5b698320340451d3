/**
 * Vectors of 16 floats, by the vector extensions of g++ and clang++: one source for all register widths. Functions marked
 * EVERY_CPU are compiled for three instruction sets; the loader selects the one of the machine.
 */
#pragma once
#include <cstdint>
#include <cstring>
#include <limits>

#define EVERY_CPU __attribute__((target_clones("avx512f", "avx2", "default")))
#define INLINE inline __attribute__((always_inline))

constexpr int LANES = 16;
constexpr float INFINITE = std::numeric_limits<float>::infinity();

/** A struct, since clang++ passes no plain vector between functions that are compiled for different instruction sets. */
struct Vector {
  typedef float Floats __attribute__((vector_size(4 * LANES)));
  typedef int32_t Integers __attribute__((vector_size(4 * LANES)));
  Floats v;

  INLINE Vector(float value = 0) : v(Floats{} + value) {}
  INLINE Vector(const Floats& floats) : v(floats) {}
  INLINE Vector operator-() const { return -v; }
  INLINE Vector& operator+=(const Vector& other) {
    v += other.v;
    return *this;
  }
};
INLINE Vector operator+(const Vector& a, const Vector& b) { return a.v + b.v; }
INLINE Vector operator-(const Vector& a, const Vector& b) { return a.v - b.v; }
INLINE Vector operator*(const Vector& a, const Vector& b) { return a.v * b.v; }
INLINE Vector operator/(const Vector& a, const Vector& b) { return a.v / b.v; }

/** Loads LANES elements, of which only `left` exist; the others are `fill`. */
INLINE Vector load(const float* from, int64_t left, float fill = 0) {
  Vector x(fill);
  if (left >= LANES) std::memcpy(&x.v, from, sizeof x.v);
  else std::memcpy(&x.v, from, left * sizeof(float));
  return x;
}

INLINE void store(float* to, const Vector& x, int64_t left) {
  if (left >= LANES) std::memcpy(to, &x.v, sizeof x.v);
  else std::memcpy(to, &x.v, left * sizeof(float));
}

/** The sum of the lanes, in a fixed order. */
INLINE float sum(const Vector& x) {
  float total = 0;
  for (int i = 0; i < LANES; i++) total += x.v[i];
  return total;
}

INLINE Vector larger(const Vector& a, const Vector& b) { return a.v > b.v ? a.v : b.v; }

INLINE float largest(const Vector& x) {
  float top = x.v[0];
  for (int i = 1; i < LANES; i++) top = x.v[i] > top ? x.v[i] : top;
  return top;
}

/**
 * e^x to about one unit in the last place: x = n·ln 2 + r, a polynomial for e^r (Cephes' expf), n added to the exponent.
 * Overflow gives infinity, NaN stays NaN, and results below the normal numbers of float32 are 0.
 */
INLINE Vector exponential(const Vector& x) {
  const Vector round = 12582912;  // 1.5·2^23: adding it rounds to an integer
  const Vector shifted = x * 1.44269504088896341f + round;
  const Vector n = shifted - round;
  const Vector r = x - n * 0.693359375f + n * 2.12194440e-4f;
  Vector p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * r * r + r + 1;
  const Vector power = (Vector::Floats)((Vector::Integers)p.v + ((Vector::Integers)shifted.v << 23));
  // One comparison for each selection: g++ 12 does not vectorize a combination of two.
  const Vector finite = x.v <= Vector(88.7228f).v ? power.v : (x + INFINITE).v;  // NaN stays NaN
  return x.v < Vector(-87.3365f).v ? Vector(0).v : finite.v;
}
