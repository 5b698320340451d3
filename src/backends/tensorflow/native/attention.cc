/**
 * The steps between the products of causal attention (../attention.ts), each in one pass over memory: operations that TensorFlow
 * lacks. They are compiled into the binding. Their results are the same bits on any number of threads.
 */
#include <cmath>

#include "operation.h"
#include "parallel.h"
#include "vector.h"

namespace {

/** Copies between packed rows [B, n, P, H, K] and heads [P, B, H, n, K]. */
template <bool toHeads>
void rearrange(const float* from, float* to, int64_t batch, int64_t n, int64_t parts, int64_t heads,
               int64_t size) {
  const int64_t width = parts * heads * size;
  inParts(batch * n, rowsPerPart(width), [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; row++) {
      for (int64_t part = 0; part < parts; part++) {
        for (int64_t head = 0; head < heads; head++) {
          const int64_t packed = row * width + (part * heads + head) * size;
          const int64_t apart = (((part * batch + row / n) * heads + head) * n + row % n) * size;
          std::memcpy(to + (toHeads ? apart : packed), from + (toHeads ? packed : apart), size * sizeof(float));
        }
      }
    }
  });
}

/** (x [B, n, P·H·K], heads, size) → [P, B·H, n, K] */
void splitHeads(Call& call) {
  const Floats x = call.input(0);
  const int64_t heads = call.scalar<int32_t>(1), size = call.scalar<int32_t>(2);
  Call::require(x.shape.size() == 3 && heads > 0 && size > 0 && x.width() % (heads * size) == 0,
                "the row width is not a multiple of heads·size");
  const int64_t batch = x.shape[0], n = x.shape[1], parts = x.width() / heads / size;
  rearrange<true>(x.data, call.result(0, {parts, batch * heads, n, size}).data, batch, n, parts, heads, size);
}

/** (x [P, B·H, n, K], heads) → [B, n, P·H·K] */
void mergeHeads(Call& call) {
  const Floats x = call.input(0);
  const int64_t heads = call.scalar<int32_t>(1);
  Call::require(x.shape.size() == 4 && heads > 0 && x.shape[1] % heads == 0, "the batch is not a multiple of heads");
  const int64_t parts = x.shape[0], batch = x.shape[1] / heads, n = x.shape[2], size = x.shape[3];
  rearrange<false>(x.data, call.result(0, {batch, n, parts * heads * size}).data, batch, n, parts, heads, size);
}

/** row ← softmax(scale·row) over its first `visible` keys, 0 elsewhere; returns log Σ exp. */
EVERY_CPU float softmaxRow(float* row, int64_t visible, int64_t keys, float scale) {
  Vector tops = -INFINITE;
  for (int64_t j = 0; j < visible; j += LANES) tops = larger(load(row + j, visible - j, -INFINITE), tops);
  const float top = largest(tops) * scale;
  Vector totals;
  for (int64_t j = 0; j < visible; j += LANES) {
    const Vector weights = exponential(load(row + j, visible - j, -INFINITE) * scale - top);
    store(row + j, weights, visible - j);
    totals += weights;
  }
  const float total = sum(totals);
  for (int64_t j = 0; j < visible; j += LANES) store(row + j, load(row + j, visible - j) / total, visible - j);
  std::memset(row + visible, 0, (keys - visible) * sizeof(float));
  return top + std::log(total);
}

int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

/** (scores [N, m, keys], scale > 0, first) → weights, in place; log Σ exp [N, m, 1]. Query i attends to keys 0..first + i. */
void attentionWeights(Call& call) {
  const Floats scores = call.take(0, 0);
  const float scale = call.scalar(1);
  const int64_t first = call.scalar<int32_t>(2);
  Call::require(scores.shape.size() == 3 && first >= 0, "scores must be [N, queries, keys] and first >= 0");
  const int64_t queries = scores.shape[1], keys = scores.width();
  const Floats logSumExp = call.result(1, {scores.shape[0], queries, 1});
  inParts(scores.rows(), rowsPerPart(keys), [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; row++)
      logSumExp.data[row] =
          softmaxRow(scores.data + row * keys, smaller(first + row % queries + 1, keys), keys, scale);
  });
}

/** One row of weights = exp(scale·scores - log Σ exp) and dScores = scale·weights·(dWeights - delta), both in place. */
EVERY_CPU void softmaxGradRow(float* scores, float* dWeights, float logSumExp, float delta, int64_t visible,
                              int64_t keys, float scale) {
  for (int64_t j = 0; j < visible; j += LANES) {
    const int64_t left = visible - j;
    const Vector weights = exponential(load(scores + j, left) * scale - logSumExp);
    store(scores + j, weights, left);
    store(dWeights + j, weights * scale * (load(dWeights + j, left) - delta), left);
  }
  std::memset(scores + visible, 0, (keys - visible) * sizeof(float));
  std::memset(dWeights + visible, 0, (keys - visible) * sizeof(float));
}

/** (scores, dWeights [N, m, keys], log Σ exp, delta [N, m, 1], scale) → weights, dScores, in place. Query i attends to keys 0..i. */
void attentionWeightsGrad(Call& call) {
  const Floats scores = call.take(0, 0), dWeights = call.take(1, 1), logSumExp = call.input(2),
               delta = call.input(3);
  const float scale = call.scalar(4);
  Call::require(scores.shape.size() == 3 && scores.shape == dWeights.shape &&
                    logSumExp.size() == scores.rows() && delta.size() == scores.rows(),
                "shapes do not match");
  const int64_t queries = scores.shape[1], keys = scores.width();
  inParts(scores.rows(), rowsPerPart(keys), [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; row++)
      softmaxGradRow(scores.data + row * keys, dWeights.data + row * keys, logSumExp.data[row], delta.data[row],
                     smaller(row % queries + 1, keys), keys, scale);
  });
}

EVERY_CPU void dotHeads(const float* a, const float* b, float* dots, int64_t heads, int64_t size,
                        int64_t stride) {
  for (int64_t head = 0; head < heads; head++, a += size, b += size, dots += stride) {
    Vector products;
    for (int64_t i = 0; i < size; i += LANES) products += load(a + i, size - i) * load(b + i, size - i);
    *dots = sum(products);
  }
}

/** (a, b [B, n, H·K], heads) → a·b of each head [B·H, n, 1] */
void headDots(Call& call) {
  const Floats a = call.input(0), b = call.input(1);
  const int64_t heads = call.scalar<int32_t>(2);
  Call::require(a.shape.size() == 3 && a.shape == b.shape && heads > 0 && a.width() % heads == 0,
                "shapes do not match");
  const int64_t n = a.shape[1], width = a.width();
  const Floats dots = call.result(0, {a.shape[0] * heads, n, 1});
  inParts(a.rows(), rowsPerPart(width), [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; row++)
      dotHeads(a.data + row * width, b.data + row * width, dots.data + row / n * heads * n + row % n, heads,
               width / heads, n);
  });
}

/** Registers the operations when the binding is loaded. */
[[gnu::constructor]] void defineAll() {
  define<splitHeads>("ModSplitHeads", {"x: float", "heads: int32", "size: int32"}, {"apart: float"});
  define<mergeHeads>("ModMergeHeads", {"x: float", "heads: int32"}, {"packed: float"});
  define<attentionWeights>("ModAttentionWeights", {"scores: float", "scale: float", "first: int32"},
                           {"weights: float", "log_sum_exp: float"});
  define<attentionWeightsGrad>(
      "ModAttentionWeightsGrad",
      {"scores: float", "d_weights: float", "log_sum_exp: float", "delta: float", "scale: float"},
      {"weights: float", "d_scores: float"});
  define<headDots>("ModHeadDots", {"a: float", "b: float", "heads: int32"}, {"dots: float"});
}

}  // namespace
