/**
 * Operations that TensorFlow lacks: what stands between the products of a transformer, each in one pass over memory.
 * They are part of the binding, and are registered when it is loaded. Every one computes the same bits on any number
 * of threads.
 */
#include <cmath>

#include "kernel.h"
#include "parallel.h"
#include "vector.h"

namespace {

/** Elements or rows that one thread takes at a time. */
constexpr int64_t ELEMENTS = 1 << 15;
constexpr int64_t rows_a_part(int64_t width) { return width >= ELEMENTS ? 1 : ELEMENTS / (width < 1 ? 1 : width); }

/** body(begin, end) for stretches of 0..count. */
template <typename Body>
void in_parts(int64_t count, int64_t a_part, const Body& body) {
  Workers::share((count + a_part - 1) / a_part, [&](int64_t part) {
    const int64_t begin = part * a_part;
    body(begin, begin + a_part < count ? begin + a_part : count);
  });
}

// ---- gelu in its tanh form: x·s with s = sigmoid(x·(SCALE + SCALE·CUBIC·x²)); see src/ops/gelu.ts

constexpr float GELU_SCALE = 1.5957691216057308f;  // 2·sqrt(2/π)
constexpr float GELU_CUBIC = 0.044715f * GELU_SCALE;

INLINE Vector gelu_gate(Vector x) { return 1.0f / (1.0f + exponential(-x * (GELU_CUBIC * x * x + GELU_SCALE))); }

EVERY_CPU void gelu_part(const float* x, float* y, int64_t size) {
  for (int64_t i = 0; i < size; i += LANES) {
    const Vector v = load(x + i, size - i);
    store(y + i, v * gelu_gate(v), size - i);
  }
}

/** (x) → y */
void gelu(Call& call) {
  const Floats x = call.input(0), y = call.result(0, x.shape);
  in_parts(x.size(), ELEMENTS, [&](int64_t begin, int64_t end) { gelu_part(x.data + begin, y.data + begin, end - begin); });
}

EVERY_CPU void gelu_grad_part(float* dy, const float* x, int64_t size) {
  for (int64_t i = 0; i < size; i += LANES) {
    const Vector v = load(x + i, size - i), s = gelu_gate(v);
    const Vector slope = 3.0f * GELU_CUBIC * v * v + GELU_SCALE;
    store(dy + i, load(dy + i, size - i) * (s + v * slope * (s * (1.0f - s))), size - i);
  }
}

/** (dy, x) → dx, in place of dy */
void gelu_grad(Call& call) {
  const Floats d = call.take(0, 0), x = call.input(1);
  Call::require(d.shape == x.shape, "dy and x differ in shape");
  in_parts(x.size(), ELEMENTS, [&](int64_t begin, int64_t end) { gelu_grad_part(d.data + begin, x.data + begin, end - begin); });
}

// ---- RMSNorm; see src/ops/rms-norm.ts

/** y = x·s·gain of one row, s = 1/sqrt(mean(x²) + epsilon) returned; with a branch, x is first written x + branch. */
EVERY_CPU void norm_rows(float* x, const float* left, const float* right, const float* gain, float* y, float* inverse, int64_t rows, int64_t width, float epsilon) {
  for (int64_t row = 0; row < rows; row++, left += width, y += width) {
    const float* value = left;
    Vector squares{};
    if (right != nullptr) {
      for (int64_t i = 0; i < width; i += LANES) {
        const Vector v = load(left + i, width - i) + load(right + i, width - i);
        store(x + i, v, width - i);
        squares += v * v;
      }
      value = x;
      x += width;
      right += width;
    } else {
      for (int64_t i = 0; i < width; i += LANES) {
        const Vector v = load(left + i, width - i);
        squares += v * v;
      }
    }
    const float s = 1.0f / std::sqrt(sum(squares) / width + epsilon);
    inverse[row] = s;
    for (int64_t i = 0; i < width; i += LANES) store(y + i, load(value + i, width - i) * s * load(gain + i, width - i), width - i);
  }
}

Shape without_last(const Shape& shape) { return Shape(shape.begin(), shape.end() - 1); }

/** (x [.., D], gain [D], epsilon) → y, inverse RMS [..] */
void rms_norm(Call& call) {
  const Floats x = call.input(0), gain = call.input(1);
  const float epsilon = call.scalar(2);
  Call::require(!x.shape.empty() && gain.size() == x.width(), "gain has one number a column");
  const Floats y = call.result(0, x.shape), inverse = call.result(1, without_last(x.shape));
  const int64_t width = x.width();
  in_parts(x.rows(), rows_a_part(width), [&](int64_t begin, int64_t end) {
    norm_rows(nullptr, x.data + begin * width, nullptr, gain.data, y.data + begin * width, inverse.data + begin, end - begin, width, epsilon);
  });
}

/** (x [.., D], branch [.., D], gain [D], epsilon) → x + branch, its norm y, inverse RMS [..] */
void add_rms_norm(Call& call) {
  const Floats x = call.input(0), branch = call.input(1), gain = call.input(2);
  const float epsilon = call.scalar(3);
  Call::require(!x.shape.empty() && x.shape == branch.shape && gain.size() == x.width(), "x and branch differ, or gain does not fit");
  const Floats total = call.result(0, x.shape), y = call.result(1, x.shape), inverse = call.result(2, without_last(x.shape));
  const int64_t width = x.width();
  in_parts(x.rows(), rows_a_part(width), [&](int64_t begin, int64_t end) {
    const int64_t at = begin * width;
    norm_rows(total.data + at, x.data + at, branch.data + at, gain.data, y.data + at, inverse.data + begin, end - begin, width, epsilon);
  });
}

/** dx = sofar + s·(g·dy - n·mean(n·g·dy)) with n = x·s, and dgain += Σ dy·n, over some rows. dx may be sofar. */
EVERY_CPU void norm_grad_rows(const float* dy, const float* x, const float* gain, const float* inverse, const float* sofar, float* dx, float* dgain, int64_t rows, int64_t width) {
  for (int64_t row = 0; row < rows; row++, dy += width, x += width, dx += width) {
    const float s = inverse[row];
    Vector products{};
    for (int64_t i = 0; i < width; i += LANES) {
      const Vector product = load(dy + i, width - i) * load(x + i, width - i);
      products += product * load(gain + i, width - i);
      store(dgain + i, load(dgain + i, width - i) + product * s, width - i);
    }
    const float along = sum(products) / width * s * s * s;
    for (int64_t i = 0; i < width; i += LANES) {
      Vector d = load(dy + i, width - i) * load(gain + i, width - i) * s - load(x + i, width - i) * along;
      if (sofar != nullptr) d += load(sofar + i, width - i);
      store(dx + i, d, width - i);
    }
    if (sofar != nullptr) sofar += width;
  }
}

/** (dy [.., D], x [.., D], gain [D], inverse RMS [..], sofar?) → dx, in place of sofar where that is given, dgain [D] */
void rms_norm_grad(Call& call) {
  const Floats dy = call.input(0), x = call.input(1), gain = call.input(2), inverse = call.input(3);
  Call::require(!x.shape.empty() && dy.shape == x.shape && gain.size() == x.width() && inverse.size() == x.rows(), "shapes do not fit");
  const bool adds = call.inputs() > 4;
  const Floats dx = adds ? call.take(0, 4) : call.result(0, x.shape);
  Call::require(dx.size() == x.size(), "sofar has another size");
  const Floats dgain = call.result(1, gain.shape);
  const int64_t width = x.width(), a_part = rows_a_part(width);
  const int64_t parts = (x.rows() + a_part - 1) / a_part;
  std::vector<float> sums(parts * width);  // of each part, so that their order is always the same
  in_parts(x.rows(), a_part, [&](int64_t begin, int64_t end) {
    const int64_t at = begin * width;
    norm_grad_rows(dy.data + at, x.data + at, gain.data, inverse.data + begin, adds ? dx.data + at : nullptr, dx.data + at, sums.data() + begin / a_part * width, end - begin, width);
  });
  for (int64_t i = 0; i < width; i++) {
    float total = 0;
    for (int64_t part = 0; part < parts; part++) total += sums[part * width + i];
    dgain.data[i] = total;
  }
}

// ---- rotary positions; see src/ops/rotary.ts

/** Turns the heads of q and k of one row: pairs (x_i, x_{i + half}), angles of half cosines and half sines. */
EVERY_CPU void turn_row(float* row, const float* angles, int64_t heads, int64_t half, float direction) {
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

/** (qkv [B, n, 3D], table [P, K], direction 1 or -1, positions? [B, n]) → q and k turned, in place of qkv */
void rotary(Call& call) {
  const Floats qkv = call.take(0, 0), table = call.input(1);
  const float direction = call.scalar(2);
  Call::require(qkv.shape.size() == 3 && table.shape.size() == 2 && table.width() > 0 && qkv.width() % (3 * table.width()) == 0, "shapes do not fit");
  const int64_t rows = qkv.rows(), n = qkv.shape[1], width = qkv.width(), size = table.width();
  std::vector<int32_t> positions(rows);
  if (call.inputs() > 3) {
    const Array<int32_t> given = call.input<int32_t>(3);
    Call::require(given.size() == rows, "one position a row");
    positions.assign(given.data, given.data + rows);
  } else {
    for (int64_t row = 0; row < rows; row++) positions[row] = row % n;
  }
  for (int32_t position : positions) Call::require(position >= 0 && position < table.shape[0], "a position beyond the table");
  in_parts(rows, rows_a_part(width), [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; row++)
      turn_row(qkv.data + row * width, table.data + positions[row] * size, width / 3 / size * 2, size / 2, direction);
  });
}

// ---- attention, but for its products; see ../attention.ts

/** Copies between packed rows [B, n, P, H, K] and heads [P, B, H, n, K]. */
template <bool to_heads>
void rearrange(const float* from, float* to, int64_t batch, int64_t n, int64_t parts, int64_t heads, int64_t size) {
  const int64_t width = parts * heads * size;
  in_parts(batch * n, rows_a_part(width), [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; row++) {
      for (int64_t part = 0; part < parts; part++) {
        for (int64_t head = 0; head < heads; head++) {
          const int64_t packed = row * width + (part * heads + head) * size;
          const int64_t apart = (((part * batch + row / n) * heads + head) * n + row % n) * size;
          std::memcpy(to + (to_heads ? apart : packed), from + (to_heads ? packed : apart), size * sizeof(float));
        }
      }
    }
  });
}

/** (x [B, n, P·H·K], heads, size) → [P, B·H, n, K] */
void split_heads(Call& call) {
  const Floats x = call.input(0);
  const int64_t heads = call.scalar<int32_t>(1), size = call.scalar<int32_t>(2);
  Call::require(x.shape.size() == 3 && heads > 0 && size > 0 && x.width() % (heads * size) == 0, "heads do not divide the rows");
  const int64_t batch = x.shape[0], n = x.shape[1], parts = x.width() / heads / size;
  rearrange<true>(x.data, call.result(0, {parts, batch * heads, n, size}).data, batch, n, parts, heads, size);
}

/** (x [P, B·H, n, K], heads) → [B, n, P·H·K] */
void merge_heads(Call& call) {
  const Floats x = call.input(0);
  const int64_t heads = call.scalar<int32_t>(1);
  Call::require(x.shape.size() == 4 && heads > 0 && x.shape[1] % heads == 0, "heads do not divide the batch");
  const int64_t parts = x.shape[0], batch = x.shape[1] / heads, n = x.shape[2], size = x.shape[3];
  rearrange<false>(x.data, call.result(0, {batch, n, parts * heads * size}).data, batch, n, parts, heads, size);
}

/** One row of scores to softmax(scale·scores) over its first `visible` keys; log Σ exp is returned. */
EVERY_CPU float softmax_row(float* row, int64_t visible, int64_t keys, float scale) {
  const float LOWEST = -std::numeric_limits<float>::infinity();
  Vector tops = all(LOWEST);
  for (int64_t j = 0; j < visible; j += LANES) tops = larger(load(row + j, visible - j, LOWEST), tops);
  const float top = largest(tops) * scale;
  Vector totals{};
  for (int64_t j = 0; j < visible; j += LANES) {
    const Vector weights = exponential(load(row + j, visible - j, LOWEST) * scale - top);
    store(row + j, weights, visible - j);
    totals += weights;
  }
  const float total = sum(totals);
  for (int64_t j = 0; j < visible; j += LANES) store(row + j, load(row + j, visible - j) / total, visible - j);
  std::memset(row + visible, 0, (keys - visible) * sizeof(float));
  return top + std::log(total);
}

int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

/** (scores [N, m, keys], scale > 0, first) → weights, in place of the scores, log Σ exp [N, m, 1]: query i sees keys 0..first + i */
void attention_weights(Call& call) {
  const Floats scores = call.take(0, 0);
  const float scale = call.scalar(1);
  const int64_t first = call.scalar<int32_t>(2);
  Call::require(scores.shape.size() == 3 && first >= 0, "scores are [N, queries, keys]");
  const int64_t queries = scores.shape[1], keys = scores.width();
  const Floats log_sum_exp = call.result(1, {scores.shape[0], queries, 1});
  in_parts(scores.rows(), rows_a_part(keys), [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; row++)
      log_sum_exp.data[row] = softmax_row(scores.data + row * keys, smaller(first + row % queries + 1, keys), keys, scale);
  });
}

/** weights = exp(scale·scores - log Σ exp), dScores = scale·weights·(dWeights - delta), both in place, of one row. */
EVERY_CPU void softmax_grad_row(float* scores, float* d_weights, float log_sum_exp, float delta, int64_t visible, int64_t keys, float scale) {
  for (int64_t j = 0; j < visible; j += LANES) {
    const int64_t left = visible - j;
    const Vector weights = exponential(load(scores + j, left) * scale - log_sum_exp);
    store(scores + j, weights, left);
    store(d_weights + j, weights * scale * (load(d_weights + j, left) - delta), left);
  }
  std::memset(scores + visible, 0, (keys - visible) * sizeof(float));
  std::memset(d_weights + visible, 0, (keys - visible) * sizeof(float));
}

/** (scores [N, m, keys], dWeights like them, log Σ exp [N, m, 1], delta [N, m, 1], scale): query i sees keys 0..i → weights, dScores */
void attention_weights_grad(Call& call) {
  const Floats scores = call.take(0, 0), d_weights = call.take(1, 1), log_sum_exp = call.input(2), delta = call.input(3);
  const float scale = call.scalar(4);
  Call::require(scores.shape.size() == 3 && scores.shape == d_weights.shape && log_sum_exp.size() == scores.rows() && delta.size() == scores.rows(), "shapes do not fit");
  const int64_t queries = scores.shape[1], keys = scores.width();
  in_parts(scores.rows(), rows_a_part(keys), [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; row++)
      softmax_grad_row(scores.data + row * keys, d_weights.data + row * keys, log_sum_exp.data[row], delta.data[row], smaller(row % queries + 1, keys), keys, scale);
  });
}

EVERY_CPU void dot_heads(const float* a, const float* b, float* dots, int64_t heads, int64_t size, int64_t stride) {
  for (int64_t head = 0; head < heads; head++, a += size, b += size, dots += stride) {
    Vector products{};
    for (int64_t i = 0; i < size; i += LANES) products += load(a + i, size - i) * load(b + i, size - i);
    *dots = sum(products);
  }
}

/** (a, b [B, n, H·K], heads) → a·b of each head [B·H, n, 1] */
void head_dots(Call& call) {
  const Floats a = call.input(0), b = call.input(1);
  const int64_t heads = call.scalar<int32_t>(2);
  Call::require(a.shape.size() == 3 && a.shape == b.shape && heads > 0 && a.width() % heads == 0, "shapes do not fit");
  const int64_t n = a.shape[1], width = a.width();
  const Floats dots = call.result(0, {a.shape[0] * heads, n, 1});
  in_parts(a.rows(), rows_a_part(width), [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; row++)
      dot_heads(a.data + row * width, b.data + row * width, dots.data + row / n * heads * n + row % n, heads, width / heads, n);
  });
}

/** Runs when the binding is loaded. */
[[gnu::constructor]] void define_all() {
  define<gelu>("ModGelu", {"x: float"}, {"y: float"});
  define<gelu_grad>("ModGeluGrad", {"dy: float", "x: float"}, {"dx: float"});
  define<rms_norm>("ModRmsNorm", {"x: float", "gain: float", "epsilon: float"}, {"y: float", "inverse_rms: float"});
  define<add_rms_norm>("ModAddRmsNorm", {"x: float", "branch: float", "gain: float", "epsilon: float"}, {"sum: float", "y: float", "inverse_rms: float"});
  define<rms_norm_grad>("ModRmsNormGrad", {"dy: float", "x: float", "gain: float", "inverse_rms: float", "sofar: n*float"}, {"dx: float", "dgain: float"});
  define<rotary>("ModRotary", {"qkv: float", "table: float", "direction: float", "positions: n*int32"}, {"turned: float"});
  define<split_heads>("ModSplitHeads", {"x: float", "heads: int32", "size: int32"}, {"apart: float"});
  define<merge_heads>("ModMergeHeads", {"x: float", "heads: int32"}, {"packed: float"});
  define<attention_weights>("ModAttentionWeights", {"scores: float", "scale: float", "first: int32"}, {"weights: float", "log_sum_exp: float"});
  define<attention_weights_grad>("ModAttentionWeightsGrad", {"scores: float", "d_weights: float", "log_sum_exp: float", "delta: float", "scale: float"}, {"weights: float", "d_scores: float"});
  define<head_dots>("ModHeadDots", {"a: float", "b: float", "heads: int32"}, {"dots: float"});
}

}  // namespace
