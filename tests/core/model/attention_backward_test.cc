// Attention's gradients on sequences of several blocks against the formulas in float64.
#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <vector>

#include "core/kernels/alibi.h"
#include "core/kernels/blas.h"
#include "core/model/attention_shards.h"
#include "core/tensor/matrix.h"
#include "tests/core/model/gradient_distance.h"
#include "tests/support/matrices.h"

namespace attnprune {
namespace {

using testing::GaussianMatrix;

struct Gradients {
  Matrix q, k, v;
};

// The attention of one query of a head in float64, and the slope of its softcap, by key.
struct Row {
  AttentionMask::Range keys;
  std::vector<double> f, slope;
};
Row AttentionRow(const ModelOptions& options, Index first, Index tokens, Index head, Index i,
                 MatrixView q, MatrixView k) {
  const Index dim = options.head_dim, at_q = head * dim;
  const Index at_k = head / (options.heads / options.kv_heads) * dim;
  const double scale = options.attention_scale, cap = options.softcap;
  const Matrix alibi = AlibiBias(options.alibi, options.heads, tokens, static_cast<float>(scale));
  Row row{.keys = options.Mask(0).Keys(i, tokens), .f = {}, .slope = {}};
  double sum = 0;
  for (Index j = row.keys.begin; j < row.keys.end; ++j) {
    double logit = 0;
    for (Index c = 0; c < dim; ++c) {
      logit += scale * double{q(first + i, at_q + c)} * double{k(first + j, at_k + c)};
    }
    if (!alibi.empty()) logit += double{alibi(head, j)};
    const double tanh = cap > 0 ? std::tanh(logit / cap) : 0;
    row.f.push_back(std::exp(cap > 0 ? cap * tanh : logit));
    row.slope.push_back(1 - tanh * tanh);
    sum += row.f.back();
  }
  for (double& f : row.f) f /= sum;
  return row;
}

// One head of one sequence, added to `to` by columns; d_mixed: the gradient at f V. pull: null, or
// towards what other attention is pulled.
void AddHead(const ModelOptions& options, Index first, Index tokens, Index head, MatrixView q,
             MatrixView k, MatrixView v, MatrixView d_mixed, const AttentionPull* pull,
             Gradients& to, AttentionDistance& distance) {
  const Index dim = options.head_dim, at_q = head * dim;
  const Index at_k = head / (options.heads / options.kv_heads) * dim;
  const double scale = options.attention_scale;
  for (Index i = 0; i < tokens; ++i) {
    const auto& [keys, f, slope] = AttentionRow(options, first, tokens, head, i, q, k);
    const std::vector<double> target =
        pull == nullptr ? f : AttentionRow(options, first, tokens, head, i, pull->q, pull->k).f;
    std::vector<double> d;
    double weighted = 0;
    for (size_t n = 0; n < f.size(); ++n) {
      const Index j = keys.begin + static_cast<Index>(n);
      const double off = f[n] - target[n];
      double d_f = pull == nullptr ? 0 : 2 * double{pull->factor} * off;
      for (Index c = 0; c < dim; ++c) {
        d_f += double{d_mixed(first + i, at_q + c)} * double{v(first + j, at_k + c)};
      }
      d.push_back(d_f);
      weighted += f[n] * d_f;
      if (pull == nullptr) continue;
      distance.squared += off * off;
      distance.target += target[n] * target[n];
    }
    for (size_t n = 0; n < f.size(); ++n) {
      const Index j = first + keys.begin + static_cast<Index>(n);
      const double d_logit = scale * f[n] * (d[n] - weighted) * slope[n];
      for (Index c = 0; c < dim; ++c) {
        to.q(first + i, at_q + c) += static_cast<float>(d_logit * double{k(j, at_k + c)});
        to.k(j, at_k + c) += static_cast<float>(d_logit * double{q(first + i, at_q + c)});
        to.v(j, at_k + c) += static_cast<float>(f[n] * double{d_mixed(first + i, at_q + c)});
      }
    }
  }
}

// Both ways for sequences of 150, 64 and 1 tokens.
void ExpectTheFormulas(const ModelOptions& options, const std::string& what, bool pulled) {
  ASSERT_TRUE(InitializeBlas().ok());
  const std::vector<Index> lengths = {150, 64, 1};
  const Index rows = 215, wide = options.heads * options.head_dim;
  const Index narrow = options.kv_heads * options.head_dim;
  const Matrix q = GaussianMatrix(rows, wide, 1), k = GaussianMatrix(rows, narrow, 2),
               v = GaussianMatrix(rows, narrow, 3);
  const Matrix d_mixed = GaussianMatrix(rows, wide, 4);
  const Matrix other_q = GaussianMatrix(rows, wide, 5), other_k = GaussianMatrix(rows, narrow, 6);
  const AttentionPull pull{other_q, other_k, 3.5f};
  const AttentionPull* const pulls = pulled ? &pull : nullptr;
  AttentionDistance expected;
  Gradients wanted{Matrix(rows, wide), Matrix(rows, narrow), Matrix(rows, narrow)};
  Index first = 0;
  for (const Index tokens : lengths) {
    for (Index head = 0; head < options.heads; ++head) {
      AddHead(options, first, tokens, head, q, k, v, d_mixed, pulls, wanted, expected);
    }
    first += tokens;
  }
  ThreadPool pool(2);
  ThreadScratch scratch;
  const AttentionShards shards(options, 0, lengths);
  Matrix mixed(rows, wide);
  MixValues(pool, shards, q, k, v, mixed, scratch);
  // Filled, to see that nothing of them is read.
  Gradients got{Matrix::Constant(rows, wide, NAN), Matrix::Constant(rows, narrow, NAN),
                Matrix::Constant(rows, narrow, NAN)};
  const AttentionDistance distance = AttentionBackward(pool, shards, {q, k, v, mixed}, d_mixed,
                                                       {got.q, got.k, got.v}, scratch, pulls);
  EXPECT_LE(testing::Distance(got.q, wanted.q), 2e-6) << what;
  EXPECT_LE(testing::Distance(got.k, wanted.k), 2e-6) << what;
  EXPECT_LE(testing::Distance(got.v, wanted.v), 2e-6) << what;
  EXPECT_NEAR(distance.squared, expected.squared, 1e-5 * expected.squared) << what;
  EXPECT_NEAR(distance.target, expected.target, 1e-5 * expected.target) << what;
}

ModelOptions SixHeads() {
  ModelOptions options;
  options.heads = 6;
  options.kv_heads = 2;
  options.head_dim = 10;
  options.attention_scale = 0.3;
  options.layers.resize(1);
  return options;
}

void ExpectTheFormulasForEveryOption(bool pulled) {
  ExpectTheFormulas(SixHeads(), "causal", pulled);
  ModelOptions options = SixHeads();
  options.causal = false;
  ExpectTheFormulas(options, "full", pulled);
  options = SixHeads();
  options.layers[0].window = 70;
  ExpectTheFormulas(options, "window", pulled);
  options = SixHeads();
  options.alibi = Alibi::kBloom;
  ExpectTheFormulas(options, "alibi", pulled);
  options.softcap = 2;
  ExpectTheFormulas(options, "softcap of logits with alibi", pulled);
}

TEST(AttentionBackward, IsTheFormulasOfFloat64ForEveryOption) {
  ExpectTheFormulasForEveryOption(/*pulled=*/false);
}

TEST(AttentionBackward, IsTheFormulasWhereAttentionIsPulledTowardsAnother) {
  ExpectTheFormulasForEveryOption(/*pulled=*/true);
}

}  // namespace
}  // namespace attnprune
