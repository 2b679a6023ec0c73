// ALPS against its formulas in float64, written down a second time.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <Eigen/Dense>
#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include "core/judge/score.h"
#include "core/kernels/gram.h"
#include "core/methods/alps_inputs.h"
#include "core/methods/alps_search.h"
#include "core/methods/linear_map.h"
#include "core/tensor/eigen.h"
#include "tests/core/methods/search_runs.h"
#include "tests/core/methods/small_problems.h"
#include "tests/support/matrices.h"

namespace attnprune {
namespace {

using testing::GaussianMatrix;
using ::testing::HasSubstr;
using testing::MakeMethod;
using testing::ProjectionProblem;
using testing::RunMethod;

using Float64 = Eigen::MatrixXd;

constexpr double kDamping = 0.01;

Float64 ToDense(MatrixView m) { return ArrayOf(m).matrix().cast<double>(); }

// Tokens whose features go together, as those of a model do.
Matrix Tokens(Index count, Index features) {
  Matrix x = GaussianMatrix(count, features, 11);
  for (Index t = 0; t < count; ++t) {
    for (Index j = 1; j < features; ++j) x(t, j) += 0.8f * x(t, j - 1);
  }
  return x;
}

// The moments and H = X'X + lambda I of a problem, unscaled.
Float64 DampedMoments(const Matrix& x) {
  const Float64 gram = ToDense(x).transpose() * ToDense(x);
  return gram + kDamping * gram.diagonal().mean() * Float64::Identity(gram.rows(), gram.cols());
}

// The largest of the matrix, or of each group of a row: 1, else 0.
Float64 Largest(const Float64& scores, const Sparsity& sparsity) {
  Float64 kept = Float64::Ones(scores.rows(), scores.cols());
  const auto prune_of = [&](std::vector<std::pair<Index, Index>> entries, Index count) {
    std::stable_sort(entries.begin(), entries.end(), [&](const auto& a, const auto& b) {
      return std::abs(scores(a.first, a.second)) < std::abs(scores(b.first, b.second));
    });
    for (Index i = 0; i < count; ++i) {
      kept(entries[static_cast<size_t>(i)].first, entries[static_cast<size_t>(i)].second) = 0;
    }
  };
  std::vector<std::pair<Index, Index>> run;
  for (Index i = 0; i < scores.rows(); ++i) {
    for (Index j = 0; j < scores.cols(); ++j) {
      run.emplace_back(i, j);
      if (!sparsity.structured() || static_cast<int>(run.size()) < sparsity.group) continue;
      prune_of(std::exchange(run, {}), sparsity.pruned);
    }
  }
  if (!sparsity.structured()) prune_of(run, sparsity.PrunedOf(scores.size()));
  return kept;
}

// The whole method of alps_search.h.
struct Reference {
  Float64 support, weights;
  int steps = 0;

  Reference(const Float64& w, const Float64& damped, const Sparsity& sparsity, int refine_steps) {
    const Eigen::ArrayXd s = damped.diagonal().array().sqrt();
    const Float64 h =
        s.inverse().matrix().asDiagonal() * damped * s.inverse().matrix().asDiagonal();
    const Float64 scaled = w * s.matrix().asDiagonal(), c = scaled * h;
    const Float64 identity = Float64::Identity(h.rows(), h.cols());
    Float64 u, v, d, last;
    const auto begin = [&] {
      u = scaled;
      v = Float64::Zero(w.rows(), w.cols());
      last = Largest(u, sparsity);
      d = u.cwiseProduct(last);
    };
    begin();
    double r = 0.1;
    bool moving = false;
    while (steps < 300) {
      ++steps;
      u = (h + r * identity).llt().solve((c - v + r * d).transpose()).transpose();
      const Float64 moved = u + v / r, kept = Largest(moved, sparsity);
      d = moved.cwiseProduct(kept);
      v += r * (u - d);
      if (steps % 3 != 0) continue;
      const double changed = (kept - last).cwiseAbs().sum(), share = changed / kept.sum();
      last = kept;
      if (share > 0.005) {
        moving = true;
        r *= share > 0.1 ? 1.3 : 1.2;
      } else if (moving) {
        if (changed == 0 || (steps >= 30 && share < 0.0003)) break;
        r *= 1.1;
      } else {
        r /= 5;
        if (changed > 0) begin();
      }
    }
    support = Largest(u, sparsity);
    Float64 x = u.cwiseProduct(support);
    Float64 residual = (c - x * h).cwiseProduct(support), direction = residual;
    for (int step = 0; step < refine_steps; ++step) {
      const Float64 product = direction * h;
      for (Index i = 0; i < x.rows(); ++i) {
        const double norm = residual.row(i).squaredNorm();
        const double length = norm / direction.row(i).dot(product.row(i));
        if (!std::isfinite(length)) continue;
        x.row(i) += length * direction.row(i);
        residual.row(i) -= length * product.row(i).cwiseProduct(support.row(i));
        direction.row(i) =
            residual.row(i) + residual.row(i).squaredNorm() / norm * direction.row(i);
      }
    }
    weights = x * s.inverse().matrix().asDiagonal();
  }
};

class AlpsOf : public ::testing::TestWithParam<Sparsity> {};

INSTANTIATE_TEST_SUITE_P(Sparsities, AlpsOf,
                         ::testing::Values(Sparsity::Fraction(0.5), Sparsity::Fraction(0.8),
                                           Sparsity::NOfM(2, 4), Sparsity::NOfM(1, 8)));

// Supports are chosen by close calls: float32 may decide a few of them otherwise.
TEST_P(AlpsOf, GivesWhatItsFormulasSay) {
  const Matrix x = Tokens(96, 32), w = GaussianMatrix(24, 32, 5);
  const Problem problem = ProjectionProblem(w.Clone(), w.Clone(), x.Clone(), GetParam());
  const PruneResult result = RunMethod("alps", problem);
  const Reference reference(ToDense(w), DampedMoments(x), GetParam(), 10);
  EXPECT_NEAR(result.steps, reference.steps, 6);
  const Float64 weights = ToDense(result.matrices[0].weights);
  const Matrix kept = result.matrices[0].mask.ToMatrix();
  const Float64 mask = ToDense(kept);
  EXPECT_LE((mask - reference.support).cwiseAbs().sum(), 0.01 * static_cast<double>(mask.size()));
  const Float64 damped = DampedMoments(x);
  const auto loss = [&](const Float64& pruned) {
    const Float64 off = pruned - ToDense(w);
    return (off * damped).cwiseProduct(off).sum();
  };
  EXPECT_NEAR(loss(weights), loss(reference.weights), 0.01 * loss(reference.weights));
}

TEST(Alps, SolvesTheKeptWeightsByLeastSquares) {
  const Matrix x = Tokens(64, 16), w = GaussianMatrix(8, 16, 6);
  const Problem problem =
      ProjectionProblem(w.Clone(), w.Clone(), x.Clone(), Sparsity::Fraction(0.5));
  const PruneResult result = RunMethod("alps:refine_steps=100", problem);
  const Float64 damped = DampedMoments(x), target = ToDense(w) * damped;
  const PrunedMatrix& pruned = result.matrices[0];
  for (Index i = 0; i < w.rows(); ++i) {
    std::vector<Index> kept;
    for (Index j = 0; j < w.cols(); ++j) {
      if (pruned.mask.kept(i, j)) kept.push_back(j);
    }
    const Eigen::VectorXd solved = damped(kept, kept).llt().solve(target.row(i)(kept).transpose());
    for (size_t n = 0; n < kept.size(); ++n) {
      EXPECT_NEAR(pruned.weights(i, kept[n]), solved(static_cast<Index>(n)), 1e-4);
    }
  }
}

TEST(Alps, LeavesLessLinearErrorThanSparseGpt) {
  for (const Sparsity& sparsity : {Sparsity::Fraction(0.7), Sparsity::NOfM(2, 4)}) {
    const Problem problem = ProjectionProblem(GaussianMatrix(32, 32, 1), GaussianMatrix(32, 32, 2),
                                              Tokens(128, 32), sparsity);
    const auto error = [&](const char* method) {
      return Judge(problem, RunMethod(method, problem))->calibration.linear_error;
    };
    EXPECT_LT(error("alps"), 0.95 * error("sparsegpt")) << ToString(sparsity);
  }
}

TEST(Alps, TellsTheLossOfTheWeightsThatItMoves) {
  const Matrix x = Tokens(64, 16), w = GaussianMatrix(8, 16, 7);
  ThreadPool pool(2);
  const AlpsInputs inputs = PrepareAlps(Gram(x, pool), kDamping).value();
  AlpsSearch search({{"w_q", w, /*inputs_are_rows=*/false}}, inputs, Sparsity::Fraction(0.5), pool,
                    0);
  double loss = 0;
  for (int step = 0; step < 40; ++step) loss = search.Step();
  const Float64 off = ToDense(search.Weights()[0]) - ToDense(w);  // D, which U has come near to
  const double near = 0.5 * (off * DampedMoments(x)).cwiseProduct(off).sum();
  EXPECT_NEAR(loss, near, 0.1 * near);
}

TEST(Alps, FactorsTheScaledMoments) {
  const Matrix x = Tokens(40, 12);
  ThreadPool pool(1);
  const AlpsInputs inputs = PrepareAlps(Gram(x, pool), kDamping).value();
  const Float64 damped = DampedMoments(x), q = ToDense(inputs.vectors);
  const Eigen::VectorXf values = Eigen::Map<const Eigen::VectorXf>(inputs.values.data(), 12);
  const Float64 h = q.transpose() * values.cast<double>().asDiagonal() * q;
  EXPECT_LT((h - ToDense(inputs.h)).cwiseAbs().maxCoeff(), 1e-5);
  for (Index i = 0; i < 12; ++i) {
    EXPECT_EQ(inputs.h(i, i), 1);
    EXPECT_NEAR(inputs.scale[static_cast<size_t>(i)], std::sqrt(damped(i, i)), 1e-4);
  }
}

TEST(Alps, PrunesAnInputThatIsAlwaysZeroFirstWithoutDamping) {
  Matrix x = Tokens(64, 8);
  for (Index t = 0; t < x.rows(); ++t) x(t, 3) = 0;
  const Problem problem = ProjectionProblem(GaussianMatrix(4, 8, 1), GaussianMatrix(4, 8, 2),
                                            std::move(x), Sparsity::Fraction(0.25));
  const PruneResult result = RunMethod("alps:damping=0", problem);
  for (Index i = 0; i < 4; ++i) EXPECT_FALSE(result.matrices[0].mask.kept(i, 3));
}

TEST(Alps, KeepsTheDenseWeightsWhereNothingIsToGo) {
  const Matrix w = GaussianMatrix(4, 8, 1);
  const Problem problem =
      ProjectionProblem(w.Clone(), w.Clone(), Tokens(16, 8), Sparsity::Fraction(0));
  const PruneResult result = RunMethod("alps", problem);
  EXPECT_EQ(result.steps, 0);
  EXPECT_TRUE(
      std::equal(w.flat().begin(), w.flat().end(), result.matrices[0].weights.flat().begin()));
}

TEST(Alps, RefusesMomentsThatOverflow) {
  Matrix x = Tokens(16, 8);
  for (float& value : x.flat()) value *= 1e25f;
  ThreadPool pool(1);
  const auto inputs = PrepareAlps(Gram(x, pool), kDamping);
  EXPECT_EQ(inputs.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(inputs.status().message(), HasSubstr("calibration"));
}

}  // namespace
}  // namespace attnprune
