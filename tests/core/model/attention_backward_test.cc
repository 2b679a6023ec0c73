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

// One head of one sequence, added to `to` by columns; d_mixed: the gradient at f V.
void AddHead(const ModelOptions& options, Index first, Index tokens, Index head, MatrixView q,
             MatrixView k, MatrixView v, MatrixView d_mixed, Gradients& to) {
  const Index dim = options.head_dim, at_q = head * dim;
  const Index at_k = head / (options.heads / options.kv_heads) * dim;
  const double scale = options.attention_scale, cap = options.softcap;
  const Matrix alibi = AlibiBias(options.alibi, options.heads, tokens, static_cast<float>(scale));
  for (Index i = 0; i < tokens; ++i) {
    const AttentionMask::Range keys = options.Mask(0).Keys(i, tokens);
    std::vector<double> f, slope, d;
    double sum = 0, weighted = 0;
    for (Index j = keys.begin; j < keys.end; ++j) {
      double logit = 0, d_f = 0;
      for (Index c = 0; c < dim; ++c) {
        logit += scale * double{q(first + i, at_q + c)} * double{k(first + j, at_k + c)};
        d_f += double{d_mixed(first + i, at_q + c)} * double{v(first + j, at_k + c)};
      }
      if (!alibi.empty()) logit += double{alibi(head, j)};
      const double tanh = cap > 0 ? std::tanh(logit / cap) : 0;
      f.push_back(std::exp(cap > 0 ? cap * tanh : logit));
      slope.push_back(1 - tanh * tanh);
      d.push_back(d_f);
      sum += f.back();
    }
    for (size_t n = 0; n < f.size(); ++n) {
      f[n] /= sum;
      weighted += f[n] * d[n];
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
void ExpectTheFormulas(const ModelOptions& options, const std::string& what) {
  ASSERT_TRUE(InitializeBlas().ok());
  const std::vector<Index> lengths = {150, 64, 1};
  const Index rows = 215, wide = options.heads * options.head_dim;
  const Index narrow = options.kv_heads * options.head_dim;
  const Matrix q = GaussianMatrix(rows, wide, 1), k = GaussianMatrix(rows, narrow, 2),
               v = GaussianMatrix(rows, narrow, 3);
  const Matrix d_mixed = GaussianMatrix(rows, wide, 4);
  Gradients wanted{Matrix(rows, wide), Matrix(rows, narrow), Matrix(rows, narrow)};
  Index first = 0;
  for (const Index tokens : lengths) {
    for (Index head = 0; head < options.heads; ++head) {
      AddHead(options, first, tokens, head, q, k, v, d_mixed, wanted);
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
  AttentionBackward(pool, shards, {q, k, v, mixed}, d_mixed, {got.q, got.k, got.v}, scratch);
  EXPECT_LE(testing::Distance(got.q, wanted.q), 2e-6) << what;
  EXPECT_LE(testing::Distance(got.k, wanted.k), 2e-6) << what;
  EXPECT_LE(testing::Distance(got.v, wanted.v), 2e-6) << what;
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

TEST(AttentionBackward, IsTheFormulasOfFloat64ForEveryOption) {
  ExpectTheFormulas(SixHeads(), "causal");
  ModelOptions options = SixHeads();
  options.causal = false;
  ExpectTheFormulas(options, "full");
  options = SixHeads();
  options.layers[0].window = 70;
  ExpectTheFormulas(options, "window");
  options = SixHeads();
  options.alibi = Alibi::kBloom;
  ExpectTheFormulas(options, "alibi");
  options.softcap = 2;
  ExpectTheFormulas(options, "softcap of logits with alibi");
}

}  // namespace
}  // namespace attnprune
