/**
 * Gelu, RMSNorm and rotary positions, each in one pass over memory: operations that TensorFlow lacks. They are compiled into the
 * binding. Their results are the same bits on any number of threads.
 */
#include <cmath>

#include "operation.h"
#include "parallel.h"
#include "vector.h"

namespace {

// Gelu in its tanh form: x·s with s = sigmoid(x·(SCALE + SCALE·CUBIC·x²)); see src/ops/gelu.ts.

constexpr float GELU_SCALE = 1.5957691216057308f;  // 2·sqrt(2/π)
constexpr float GELU_CUBIC = 0.044715f * GELU_SCALE;

INLINE Vector geluGate(const Vector& x) {
  return 1.0f / (1.0f + exponential(-x * (GELU_CUBIC * x * x + GELU_SCALE)));
}

EVERY_CPU void geluPart(const float* x, float* y, int64_t size) {
  for (int64_t i = 0; i < size; i += LANES) {
    const Vector v = load(x + i, size - i);
    store(y + i, v * geluGate(v), size - i);
  }
}

/** (x) → y */
void gelu(Call& call) {
  const Floats x = call.input(0), y = call.result(0, x.shape);
  inParts(x.size(), PART,
          [&](int64_t begin, int64_t end) { geluPart(x.data + begin, y.data + begin, end - begin); });
}

EVERY_CPU void geluGradPart(float* dy, const float* x, int64_t size) {
  for (int64_t i = 0; i < size; i += LANES) {
    const Vector v = load(x + i, size - i), s = geluGate(v);
    const Vector slope = 3.0f * GELU_CUBIC * v * v + GELU_SCALE;
    store(dy + i, load(dy + i, size - i) * (s + v * slope * (s * (1.0f - s))), size - i);
  }
}

/** (dy, x) → dx, in place of dy */
void geluGrad(Call& call) {
  const Floats d = call.take(0, 0), x = call.input(1);
  Call::require(d.shape == x.shape, "dy and x differ in shape");
  inParts(x.size(), PART,
          [&](int64_t begin, int64_t end) { geluGradPart(d.data + begin, x.data + begin, end - begin); });
}

// RMSNorm; see src/ops/rms-norm.ts.

/** y = x·s·gain with s = 1/sqrt(mean(x²) + epsilon) for some rows; with a branch, x is total = x + branch. */
EVERY_CPU void normRows(const float* x, const float* branch, float* total, const float* gain, float* y,
                        float* inverse, int64_t rows, int64_t width, float epsilon) {
  for (int64_t row = 0; row < rows; row++) {
    const int64_t at = row * width;
    const float* values = branch == nullptr ? x + at : total + at;
    Vector squares;
    for (int64_t i = 0; i < width; i += LANES) {
      Vector v = load(x + at + i, width - i);
      if (branch != nullptr) {
        v += load(branch + at + i, width - i);
        store(total + at + i, v, width - i);
      }
      squares += v * v;
    }
    const float s = 1.0f / std::sqrt(sum(squares) / width + epsilon);
    inverse[row] = s;
    for (int64_t i = 0; i < width; i += LANES)
      store(y + at + i, load(values + i, width - i) * s * load(gain + i, width - i), width - i);
  }
}

Shape withoutLast(const Shape& shape) { return Shape(shape.begin(), shape.end() - 1); }

/** (x [.., D], gain [D], epsilon) → y, inverse RMS [..] */
void rmsNorm(Call& call) {
  const Floats x = call.input(0), gain = call.input(1);
  const float epsilon = call.scalar(2);
  Call::require(!x.shape.empty() && gain.size() == x.width(), "gain must have one element for each column");
  const Floats y = call.result(0, x.shape), inverse = call.result(1, withoutLast(x.shape));
  const int64_t width = x.width();
  inParts(x.rows(), rowsPerPart(width), [&](int64_t begin, int64_t end) {
    normRows(x.data + begin * width, nullptr, nullptr, gain.data, y.data + begin * width, inverse.data + begin,
             end - begin, width, epsilon);
  });
}

/** (x [.., D], branch [.., D], gain [D], epsilon) → x + branch, its norm y, inverse RMS [..] */
void addRmsNorm(Call& call) {
  const Floats x = call.input(0), branch = call.input(1), gain = call.input(2);
  const float epsilon = call.scalar(3);
  Call::require(!x.shape.empty() && x.shape == branch.shape && gain.size() == x.width(),
                "x and branch must have the same shape, and gain one element for each column");
  const Floats total = call.result(0, x.shape), y = call.result(1, x.shape),
               inverse = call.result(2, withoutLast(x.shape));
  const int64_t width = x.width();
  inParts(x.rows(), rowsPerPart(width), [&](int64_t begin, int64_t end) {
    const int64_t at = begin * width;
    normRows(x.data + at, branch.data + at, total.data + at, gain.data, y.data + at, inverse.data + begin,
             end - begin, width, epsilon);
  });
}

/** dx = gradAccum + s·(g·dy - n·mean(n·g·dy)) with n = x·s, and dgain += Σ dy·n, over some rows. dx may be gradAccum. */
EVERY_CPU void normGradRows(const float* dy, const float* x, const float* gain, const float* inverse,
                            const float* gradAccum, float* dx, float* dgain, int64_t rows, int64_t width) {
  for (int64_t row = 0; row < rows; row++, dy += width, x += width, dx += width) {
    const float s = inverse[row];
    Vector products;
    for (int64_t i = 0; i < width; i += LANES) {
      const Vector product = load(dy + i, width - i) * load(x + i, width - i);
      products += product * load(gain + i, width - i);
      store(dgain + i, load(dgain + i, width - i) + product * s, width - i);
    }
    const float along = sum(products) / width * s * s * s;
    for (int64_t i = 0; i < width; i += LANES) {
      Vector d = load(dy + i, width - i) * load(gain + i, width - i) * s - load(x + i, width - i) * along;
      if (gradAccum != nullptr) d += load(gradAccum + i, width - i);
      store(dx + i, d, width - i);
    }
    if (gradAccum != nullptr) gradAccum += width;
  }
}

/** (dy [.., D], x [.., D], gain [D], inverse RMS [..], gradAccum?) → dx, in place of gradAccum if given; dgain [D] */
void rmsNormGrad(Call& call) {
  const Floats dy = call.input(0), x = call.input(1), gain = call.input(2), inverse = call.input(3);
  Call::require(
      !x.shape.empty() && dy.shape == x.shape && gain.size() == x.width() && inverse.size() == x.rows(),
      "shapes do not match");
  const bool adds = call.inputs() > 4;
  const Floats dx = adds ? call.take(0, 4) : call.result(0, x.shape);
  Call::require(dx.size() == x.size(), "grad_accum and x must have the same size");
  const Floats dgain = call.result(1, gain.shape);
  const int64_t width = x.width(), partSize = rowsPerPart(width);
  const int64_t parts = (x.rows() + partSize - 1) / partSize;
  std::vector<float> sums(parts * width);  // one row for each part, so that the order of summation is fixed
  inParts(x.rows(), partSize, [&](int64_t begin, int64_t end) {
    const int64_t at = begin * width;
    normGradRows(dy.data + at, x.data + at, gain.data, inverse.data + begin, adds ? dx.data + at : nullptr,
                 dx.data + at, sums.data() + begin / partSize * width, end - begin, width);
  });
  for (int64_t i = 0; i < width; i++) {
    float total = 0;
    for (int64_t part = 0; part < parts; part++) total += sums[part * width + i];
    dgain.data[i] = total;
  }
}

// Rotary positions; see src/ops/rotary.ts.

/** Rotates the pairs (x_i, x_{i + half}) of the heads of q and k in one row; `angles` is half cosines, then half sines. */
EVERY_CPU void rotateRow(float* row, const float* angles, int64_t heads, int64_t half, float direction) {
  for (int64_t head = 0; head < heads; head++, row += 2 * half) {
    for (int64_t i = 0; i < half; i += LANES) {
      const int64_t left = half - i;
      const Vector a = load(row + i, left), b = load(row + half + i, left);
      const Vector cosine = load(angles + i, left), sine = direction * load(angles + half + i, left);
      store(row + i, a * cosine - b * sine, left);
      store(row + half + i, b * cosine + a * sine, left);
    }
  }
}

/** (qkv [B, n, 3D], table [P, K], direction 1 or -1, positions? [B, n]) → q and k rotated, in place of qkv */
void rotary(Call& call) {
  const Floats qkv = call.take(0, 0), table = call.input(1);
  const float direction = call.scalar(2);
  Call::require(qkv.shape.size() == 3 && table.shape.size() == 2 && table.width() > 0 &&
                    qkv.width() % (3 * table.width()) == 0,
                "shapes do not match");
  const int64_t rows = qkv.rows(), n = qkv.shape[1], width = qkv.width(), size = table.width();
  std::vector<int32_t> positions(rows);
  if (call.inputs() > 3) {
    const Array<int32_t> given = call.input<int32_t>(3);
    Call::require(given.size() == rows, "there must be one position for each row");
    positions.assign(given.data, given.data + rows);
  } else {
    for (int64_t row = 0; row < rows; row++) positions[row] = row % n;
  }
  for (int32_t position : positions)
    Call::require(position >= 0 && position < table.shape[0], "a position is outside the table");
  inParts(rows, rowsPerPart(width), [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; row++)
      rotateRow(qkv.data + row * width, table.data + positions[row] * size, width / 3 / size * 2, size / 2,
              direction);
  });
}

/** Registers the operations when the binding is loaded. */
[[gnu::constructor]] void defineAll() {
  define<gelu>("ModGelu", {"x: float"}, {"y: float"});
  define<geluGrad>("ModGeluGrad", {"dy: float", "x: float"}, {"dx: float"});
  define<rmsNorm>("ModRmsNorm", {"x: float", "gain: float", "epsilon: float"},
                  {"y: float", "inverse_rms: float"});
  define<addRmsNorm>("ModAddRmsNorm", {"x: float", "branch: float", "gain: float", "epsilon: float"},
                     {"sum: float", "y: float", "inverse_rms: float"});
  define<rmsNormGrad>("ModRmsNormGrad",
                      {"dy: float", "x: float", "gain: float", "inverse_rms: float", "grad_accum: n*float"},
                      {"dx: float", "dgain: float"});
  define<rotary>("ModRotary", {"qkv: float", "table: float", "direction: float", "positions: n*int32"},
                 {"rotated: float"});
}

}  // namespace
