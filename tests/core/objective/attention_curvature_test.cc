// The curvature against a dense Gauss-Newton matrix by finite differences in float64.
#include "core/objective/attention_curvature.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

#include "core/kernels/blas.h"
#include "tests/reference/attention_reference.h"
#include "tests/reference/problems.h"

namespace attnprune {
namespace {

using reference::Dense;

constexpr Index kMostTokens = 16;

// The problem with a feature more for each token of all batches, 1 there and 0 elsewhere, without
// weight: what its weight does is done to that token's projection alone.
reference::AttentionProblem WithTokenFeatures(reference::AttentionProblem problem) {
  Index tokens = 0, token = 0;
  for (const Dense& x : problem.batches) tokens += x.rows();
  const Index d = problem.batches[0].cols();
  for (Dense& w : problem.weights) {
    w.conservativeResizeLike(Dense::Zero(w.rows(), d + tokens));
  }
  for (Dense& x : problem.batches) {
    x.conservativeResizeLike(Dense::Zero(x.rows(), d + tokens));
    for (Index t = 0; t < x.rows(); ++t) x(t, d + token++) = 1;
  }
  return problem;
}

std::vector<reference::ProblemRow> SmallLayers() {
  std::vector<reference::ProblemRow> rows;
  for (reference::ProblemRow& row : reference::AllRows()) {
    Index tokens = 0;
    for (const Dense& x : row.problem.batches) tokens += x.rows();
    if (row.problem.fused() || tokens > kMostTokens) continue;
    row.problem = WithTokenFeatures(std::move(row.problem));
    rows.push_back(std::move(row));
  }
  return rows;
}

class CurvatureOf : public ::testing::TestWithParam<reference::ProblemRow> {
 protected:
  const reference::AttentionProblem& problem() const { return GetParam().problem; }
  const std::vector<Dense> weights_ = GetParam().problem.weights;

  // J'J in one head's outputs for one token, J the derivative of the attention of the heads that it
  // is of.
  Dense TokenMoment(size_t side, Index head, Index feature) const {
    const Index dim = problem().head_dim(), group = problem().heads / problem().kv_heads;
    const Index first = side == 0 ? head : head * group,
                last = side == 0 ? head + 1 : first + group;
    std::vector<std::vector<double>> columns;
    for (Index a = 0; a < dim; ++a) {
      constexpr double kStep = 1e-5;
      std::vector<double>& column = columns.emplace_back();
      std::vector<Dense> up = weights_, down = weights_;
      up[side](head * dim + a, feature) += kStep;
      down[side](head * dim + a, feature) -= kStep;
      for (const Dense& x : problem().batches) {
        if (x.col(feature).isZero()) continue;
        for (Index of = first; of < last; ++of) {
          const Dense change = reference::Attention(problem(), up, x, of) -
                               reference::Attention(problem(), down, x, of);
          for (Index i = 0; i < change.size(); ++i) {
            column.push_back(change.data()[i] / (2 * kStep));
          }
        }
      }
    }
    Dense moment(dim, dim);
    for (Index a = 0; a < dim; ++a) {
      for (Index b = 0; b < dim; ++b) {
        double sum = 0;
        for (size_t i = 0; i < columns[static_cast<size_t>(a)].size(); ++i) {
          sum += columns[static_cast<size_t>(a)][i] * columns[static_cast<size_t>(b)][i];
        }
        moment(a, b) = sum;
      }
    }
    return moment;
  }

  void ExpectCurvature(const HeadCurvature& got, size_t side, Index head) const {
    const Index dim = problem().head_dim(), d = problem().batches[0].cols();
    Dense outputs = Dense::Zero(dim, dim), inputs = Dense::Zero(d, d);
    Index tokens = 0, token = 0;
    for (const Dense& x : problem().batches) tokens += x.rows();
    for (const Dense& x : problem().batches) {
      for (Index t = 0; t < x.rows(); ++t) {
        const Dense moment = TokenMoment(side, head, d - tokens + token++);
        outputs += moment;
        inputs += moment.trace() * x.row(t).transpose() * x.row(t);
      }
    }
    ExpectNear(got.outputs, outputs);
    ExpectNear(got.inputs, inputs);
  }

  static void ExpectNear(const GramMatrix& got, const Dense& expected) {
    const double tolerance = 1e-4 * expected.cwiseAbs().maxCoeff() + 1e-9;
    for (Index i = 0; i < got.size(); ++i) {
      for (Index j = 0; j < got.size(); ++j) {
        ASSERT_NEAR(got(i, j), expected(i, j), tolerance) << i << ", " << j;
      }
    }
  }
};

INSTANTIATE_TEST_SUITE_P(Layers, CurvatureOf, ::testing::ValuesIn(SmallLayers()),
                         [](const auto& test) { return reference::TestName(test.param.sentence); });

TEST_P(CurvatureOf, IsTheGaussNewtonMatrixOfEachHead) {
  ASSERT_TRUE(InitializeBlas().ok());
  const Problem core = reference::ToCore(problem());
  ThreadPool pool(2);
  LayerCurvature sum(core.projections());
  AttentionCurvature curvature(core.projections(), core.attention, core.effective_scale(),
                               core.calibration, pool);
  curvature.Add(core.projections().w_q, core.projections().w_k, sum);
  for (Index h = 0; h < core.projections().heads; ++h) {
    SCOPED_TRACE(h);
    ExpectCurvature(sum.queries[static_cast<size_t>(h)], 0, h);
  }
  for (Index h = 0; h < core.projections().kv_heads; ++h) {
    SCOPED_TRACE(h);
    ExpectCurvature(sum.keys[static_cast<size_t>(h)], 1, h);
  }
}

}  // namespace
}  // namespace attnprune
