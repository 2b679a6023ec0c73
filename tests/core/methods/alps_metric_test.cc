// ALPS with the loss's curvature at its outputs, against the same in float64 as one dense system.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <Eigen/Dense>
#include <algorithm>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "core/base/field_error.h"
#include "core/kernels/gram.h"
#include "core/methods/coupled_system.h"
#include "core/methods/linear_problem.h"
#include "core/methods/methods.h"
#include "core/methods/output_metric.h"
#include "core/methods/solver_state.h"
#include "core/tensor/eigen.h"
#include "tests/core/methods/small_problems.h"
#include "tests/support/matrices.h"

namespace attnprune {
namespace {

using testing::GaussianMatrix;
using ::testing::HasSubstr;
using testing::MakeMethod;
using testing::Values;

using Float64 = Eigen::MatrixXd;

constexpr double kInputDamping = 0.01, kMetricShare = 0.9;

Float64 AsFloat64(MatrixView m) { return ArrayOf(m).matrix().cast<double>(); }

// Vectors whose entries go together, and are of very different sizes.
Matrix Mixed(Index count, Index size, unsigned seed) {
  Matrix x = GaussianMatrix(count, size, seed);
  for (Index t = 0; t < count; ++t) {
    for (Index j = 1; j < size; ++j) x(t, j) += 0.8f * x(t, j - 1);
    for (Index j = 0; j < size; ++j) x(t, j) *= j % 3 == 0 ? 3.0f : 0.5f;
  }
  return x;
}

GramMatrix MomentsOf(Index count, Index size, unsigned seed) {
  ThreadPool pool(1);
  const Matrix x = Mixed(count, size, seed);
  return Gram(x, pool);
}

// Of gradients of so many outputs, a block each; more gradients than outputs.
OutputCurvature CurvatureOf(const std::vector<Index>& sizes) {
  OutputCurvature curvature;
  Index first = 0;
  for (const Index size : sizes) {
    const GramMatrix moments = MomentsOf(3 * size, size, 70 + static_cast<unsigned>(first));
    curvature.blocks.push_back({.first = first, .moments = moments});
    first += size;
  }
  return curvature;
}

OutputCurvature IdentityCurvature(Index outputs) {
  OutputCurvature curvature;
  curvature.blocks.push_back({.first = 0, .moments = GramMatrix(outputs)});
  for (Index i = 0; i < outputs; ++i) curvature.blocks[0].moments(i, i) = 5;
  return curvature;
}

// The metric that PrepareMetric promises.
Float64 MetricOf(const OutputCurvature& curvature, double share) {
  const Index outputs = curvature.blocks.back().first + curvature.blocks.back().moments.size();
  Float64 b = Float64::Zero(outputs, outputs);
  for (const OutputCurvature::Block& block : curvature.blocks) {
    for (Index i = 0; i < block.moments.size(); ++i) {
      for (Index j = 0; j < block.moments.size(); ++j) {
        b(block.first + i, block.first + j) = block.moments(i, j);
      }
    }
  }
  return share * b / b.diagonal().mean() + (1 - share) * Float64::Identity(outputs, outputs);
}

Float64 DampedInputs(const GramMatrix& moments, double damping) {
  const Index d = moments.size();
  Float64 h(d, d);
  for (Index i = 0; i < d; ++i) {
    for (Index j = 0; j < d; ++j) h(i, j) = moments(i, j);
  }
  return h + damping * h.diagonal().mean() * Float64::Identity(d, d);
}

Float64 WithUnitDiagonal(const Float64& m) {
  const Eigen::VectorXd scale = m.diagonal().cwiseSqrt().cwiseInverse();
  return scale.asDiagonal() * m * scale.asDiagonal();
}

// B (x) H for matrices taken row by row.
Float64 Kronecker(const Float64& b, const Float64& h) {
  Float64 k(b.rows() * h.rows(), b.rows() * h.rows());
  for (Index i = 0; i < b.rows(); ++i) {
    for (Index j = 0; j < b.rows(); ++j) {
      k.block(i * h.rows(), j * h.rows(), h.rows(), h.rows()) = b(i, j) * h;
    }
  }
  return k;
}

Eigen::VectorXd Flat(const Matrix& m) {
  return Eigen::Map<const Eigen::VectorXf>(m.data(), m.size()).cast<double>();
}

double Objective(const Float64& h, const Float64& b, const Matrix& weights, const Matrix& dense) {
  const Float64 off = AsFloat64(weights) - AsFloat64(dense);
  return (b * off * h).cwiseProduct(off).sum();
}

class AlpsMetric : public ::testing::TestWithParam<std::vector<Index>> {
 protected:
  static constexpr Index kInputs = 12, kOutputs = 10;

  LinearProblem Problem(const Sparsity& sparsity, const OutputCurvature* curvature) {
    return {.maps = {{"w", w_, /*inputs_are_rows=*/false}},
            .inputs = inputs_,
            .sparsity = sparsity,
            .curvature = curvature};
  }
  PruneResult Prune(const std::string& method, const LinearProblem& problem) {
    return MakeMethod(method)->PruneLinear(problem, pool_).value();
  }
  double ObjectiveOf(const PruneResult& result) const {
    return Objective(DampedInputs(inputs_.moments(), kInputDamping),
                     MetricOf(curvature_, kMetricShare), result.matrices[0].weights, w_);
  }

  ThreadPool pool_{2};
  LinearInputs inputs_{MomentsOf(60, kInputs, 1)};
  OutputCurvature curvature_ = CurvatureOf(GetParam());
  Matrix w_ = GaussianMatrix(kOutputs, kInputs, 2);
};

INSTANTIATE_TEST_SUITE_P(Blocks, AlpsMetric,
                         ::testing::Values(std::vector<Index>{10}, std::vector<Index>{4, 6},
                                           std::vector<Index>{1, 7, 2}));

TEST_P(AlpsMetric, IsTheCurvatureWithUnitMeanAndATenthOfTheIdentity) {
  const OutputMetric metric = PrepareMetric(curvature_, kMetricShare, pool_).value();
  const Float64 expected = MetricOf(curvature_, kMetricShare);
  ASSERT_EQ(metric.blocks.size(), curvature_.blocks.size());
  EXPECT_NEAR(expected.diagonal().mean(), 1, 1e-12);
  for (const OutputMetric::Block& block : metric.blocks) {
    for (Index i = 0; i < block.b.h.rows(); ++i) {
      for (Index j = 0; j < block.b.h.rows(); ++j) {
        const float scaled = block.b.h(i, j) * block.b.scale[static_cast<size_t>(i)] *
                             block.b.scale[static_cast<size_t>(j)];
        EXPECT_NEAR(scaled, expected(block.first + i, block.first + j), 1e-5);
      }
    }
  }
}

TEST_P(AlpsMetric, SolvesAStepAsTheDenseSystemDoes) {
  const OutputMetric metric = PrepareMetric(curvature_, kMetricShare, pool_).value();
  CoupledSystem system(*inputs_.Alps(kInputDamping).value(), metric, pool_);
  const Float64 k = Kronecker(WithUnitDiagonal(MetricOf(curvature_, kMetricShare)),
                              WithUnitDiagonal(DampedInputs(inputs_.moments(), kInputDamping)));
  for (const float r : {0.01f, 0.1f, 2.0f}) {
    Matrix u(kOutputs, kInputs);
    system.Solve(w_, r, u);
    const Float64 shifted = k + static_cast<double>(r) * Float64::Identity(k.rows(), k.cols());
    const Eigen::VectorXd expected = shifted.llt().solve(Flat(w_));
    EXPECT_LT((Flat(u) - expected).norm(), 1e-5 * expected.norm()) << r;
  }
  Matrix product(kOutputs, kInputs);
  system.Multiply(w_, product);
  EXPECT_LT((Flat(product) - k * Flat(w_)).norm(), 1e-6 * Flat(product).norm());
}

TEST_P(AlpsMetric, RefinesTheKeptWeightsToTheLeastObjective) {
  const PruneResult result =
      Prune("alps:refine_steps=200", Problem(Sparsity::Fraction(0.6), &curvature_));
  const Float64 b = MetricOf(curvature_, kMetricShare);
  const Float64 k = Kronecker(b, DampedInputs(inputs_.moments(), kInputDamping));
  const Eigen::VectorXd c = k * Flat(w_);
  std::vector<Index> kept;
  for (Index i = 0; i < w_.size(); ++i) {
    if (result.matrices[0].mask.kept(i)) kept.push_back(i);
  }
  ASSERT_EQ(std::ssize(kept), 48);
  const Eigen::VectorXd expected = k(kept, kept).llt().solve(c(kept));
  const Eigen::VectorXd got = Flat(result.matrices[0].weights)(kept);
  EXPECT_LT((got - expected).norm(), 1e-3 * expected.norm());
}

TEST_P(AlpsMetric, LeavesLessOfItsObjectiveThanWithoutTheMetric) {
  for (const Sparsity& sparsity :
       {Sparsity::Fraction(0.5), Sparsity::Fraction(0.8), Sparsity::NOfM(2, 4)}) {
    const double with = ObjectiveOf(Prune("alps", Problem(sparsity, &curvature_)));
    const double without = ObjectiveOf(Prune("alps", Problem(sparsity, nullptr)));
    EXPECT_LT(with, 0.97 * without) << ToString(sparsity);
  }
}

TEST_P(AlpsMetric, PrunesExactlySoManyOfEachGroup) {
  const PruneResult result = Prune("alps", Problem(Sparsity::NOfM(1, 4), &curvature_));
  for (Index group = 0; group < w_.size() / 4; ++group) {
    int kept = 0;
    for (Index i = 0; i < 4; ++i) kept += result.matrices[0].mask.kept(4 * group + i) ? 1 : 0;
    EXPECT_EQ(kept, 3);
  }
}

// Saves the state of every step.
class SavingAll final : public ProgressObserver {
 public:
  Verdict OnStep(const StepStats& stats, const Resumable& run) override {
    states.push_back(run.SaveState());
    losses.push_back(stats.attention_loss);
    return Verdict::kContinue;
  }
  std::vector<std::string> states;
  std::vector<double> losses;
};

TEST_P(AlpsMetric, GoesOnFromAnyStepWithTheSameBits) {
  const LinearProblem problem = Problem(Sparsity::Fraction(0.7), &curvature_);
  const auto alps = MakeMethod("alps");
  SavingAll saving;
  const PruneResult whole = alps->PruneLinear(problem, pool_, {}, saving).value();
  ASSERT_GT(saving.states.size(), 5);
  for (const std::string& state : saving.states) {
    SavingAll again;
    const PruneResult resumed =
        alps->PruneLinear(problem, pool_, {.resume_from = state}, again).value();
    EXPECT_EQ(resumed.steps, whole.steps);
    EXPECT_EQ(Values(resumed.matrices[0].weights), Values(whole.matrices[0].weights));
  }
}

TEST_P(AlpsMetric, RefusesAStateOfAnotherCurvatureOrOfNone) {
  SavingAll saving, unused;
  const auto alps = MakeMethod("alps");
  const Sparsity sparsity = Sparsity::Fraction(0.7);
  ASSERT_TRUE(alps->PruneLinear(Problem(sparsity, &curvature_), pool_, {}, saving).ok());
  const RunOptions resume = {.resume_from = saving.states[0]};
  const auto refused = [&](const std::string& method, const OutputCurvature* curvature) {
    return IsResumeRefused(MakeMethod(method)
                               ->PruneLinear(Problem(sparsity, curvature), pool_, resume, unused)
                               .status());
  };
  EXPECT_FALSE(refused("alps", &curvature_));
  EXPECT_TRUE(refused("alps", nullptr));
  EXPECT_TRUE(refused("alps:metric_share=0.8", &curvature_));
  curvature_.blocks[0].moments(0, 0) *= 1.5;
  EXPECT_TRUE(refused("alps", &curvature_));
}

TEST_P(AlpsMetric, TellsTheLossInItsMetricOfTheWeightsThatItMoves) {
  SavingAll saving;
  const PruneResult result =
      MakeMethod("alps:refine_steps=0")
          ->PruneLinear(Problem(Sparsity::Fraction(0.5), &curvature_), pool_, {}, saving)
          .value();
  const double near = 0.5 * ObjectiveOf(result);  // of D, which U has come near to
  EXPECT_NEAR(saving.losses.back(), near, 0.15 * near);
}

class AlpsMetricOf : public ::testing::Test {
 protected:
  LinearProblem Problem(const Matrix& w, const Sparsity& sparsity,
                        const OutputCurvature* curvature) {
    return {.maps = {{"w", w, /*inputs_are_rows=*/false}},
            .inputs = inputs_,
            .sparsity = sparsity,
            .curvature = curvature};
  }
  PruneResult Prune(const std::string& method, const LinearProblem& problem) {
    return MakeMethod(method)->PruneLinear(problem, pool_).value();
  }

  ThreadPool pool_{2};
  LinearInputs inputs_{MomentsOf(200, 32, 3)};
  Matrix w_ = GaussianMatrix(24, 32, 4);
};

// Supports are chosen by close calls: float32 may decide a few of them otherwise.
TEST_F(AlpsMetricOf, TheIdentityIsPlainAlps) {
  for (const Sparsity& sparsity : {Sparsity::Fraction(0.7), Sparsity::NOfM(2, 4)}) {
    const OutputCurvature identity = IdentityCurvature(24);
    const PruneResult with = Prune("alps:refine_steps=200", Problem(w_, sparsity, &identity));
    const PruneResult plain = Prune("alps:refine_steps=200", Problem(w_, sparsity, nullptr));
    EXPECT_EQ(with.steps, plain.steps);
    EXPECT_EQ(with.matrices[0].mask, plain.matrices[0].mask);
    const Float64 expected = AsFloat64(plain.matrices[0].weights);
    EXPECT_LT((AsFloat64(with.matrices[0].weights) - expected).norm(), 1e-4 * expected.norm());
  }
}

TEST_F(AlpsMetricOf, NoCurvatureAtAllIsTheIdentity) {
  OutputCurvature none;
  none.blocks.push_back({.first = 0, .moments = GramMatrix(24)});
  const OutputCurvature identity = IdentityCurvature(24);
  const Sparsity sparsity = Sparsity::Fraction(0.7);
  EXPECT_EQ(Values(Prune("alps", Problem(w_, sparsity, &none)).matrices[0].weights),
            Values(Prune("alps", Problem(w_, sparsity, &identity)).matrices[0].weights));
}

TEST_F(AlpsMetricOf, KeepsLessOfOutputsThatTheLossDoesNotSee) {
  const OutputCurvature seeing = CurvatureOf({8, 16});
  OutputCurvature blind = seeing;
  constexpr Index kUnseen[] = {3, 6};
  for (const Index unseen : kUnseen) {
    for (Index j = 0; j < 8; ++j) {
      blind.blocks[0].moments(unseen, j) = blind.blocks[0].moments(j, unseen) = 0;
    }
  }
  const auto kept_of = [&](const char* method, const OutputCurvature& curvature, Index row) {
    const PruneResult result = Prune(method, Problem(w_, Sparsity::Fraction(0.7), &curvature));
    int kept = 0;
    for (Index j = 0; j < 32; ++j) kept += result.matrices[0].mask.kept(row * 32 + j) ? 1 : 0;
    return kept;
  };
  for (const Index unseen : kUnseen) {
    EXPECT_LT(kept_of("alps", blind, unseen), kept_of("alps", seeing, unseen));
    EXPECT_GT(kept_of("alps:metric_share=1", seeing, unseen), 0);
    EXPECT_EQ(kept_of("alps:metric_share=1", blind, unseen), 0);
  }
}

TEST_F(AlpsMetricOf, InputsThatAreFewerThanTheirFeaturesAreNoTrouble) {
  LinearInputs few(MomentsOf(7, 32, 5));
  const OutputCurvature curvature = CurvatureOf({24});
  const LinearProblem problem{.maps = {{"w", w_, /*inputs_are_rows=*/false}},
                              .inputs = few,
                              .sparsity = Sparsity::Fraction(0.5),
                              .curvature = &curvature};
  for (const char* const method : {"alps", "alps:damping=0", "alps:damping=0,metric_share=1"}) {
    const PruneResult result = Prune(method, problem);
    EXPECT_EQ(result.matrices[0].mask.CountPruned(), 384) << method;
    EXPECT_LT(AsFloat64(result.matrices[0].weights).cwiseAbs().maxCoeff(), 100) << method;
  }
}

TEST_F(AlpsMetricOf, ThreadsDoNotChangeTheBits) {
  LinearInputs inputs(MomentsOf(300, 200, 6));
  const Matrix w = GaussianMatrix(330, 200, 7);
  for (const auto& sizes : {std::vector<Index>{330}, std::vector<Index>{150, 80, 100}}) {
    const OutputCurvature curvature = CurvatureOf(sizes);
    const LinearProblem problem{.maps = {{"w", w, /*inputs_are_rows=*/false}},
                                .inputs = inputs,
                                .sparsity = Sparsity::Fraction(0.7),
                                .curvature = &curvature};
    std::vector<std::vector<float>> weights;
    for (const int threads : {1, 3}) {
      ThreadPool pool(threads);
      const PruneResult result = MakeMethod("alps:steps=12")->PruneLinear(problem, pool).value();
      weights.push_back(Values(result.matrices[0].weights));
    }
    EXPECT_EQ(weights[0], weights[1]);
  }
}

TEST_F(AlpsMetricOf, AStoredTransposeGivesTheSameWeights) {
  Matrix turned(32, 24);
  for (Index i = 0; i < 24; ++i) {
    for (Index j = 0; j < 32; ++j) turned(j, i) = w_(i, j);
  }
  const OutputCurvature curvature = CurvatureOf({24});
  LinearProblem problem = Problem(w_, Sparsity::Fraction(0.7), &curvature);
  const PruneResult straight = Prune("alps", problem);
  problem.maps = {{"w", turned, /*inputs_are_rows=*/true}};
  const PruneResult transposed = Prune("alps", problem);
  for (Index i = 0; i < 24; ++i) {
    for (Index j = 0; j < 32; ++j) {
      EXPECT_EQ(transposed.matrices[0].weights(j, i), straight.matrices[0].weights(i, j));
    }
  }
}

TEST_F(AlpsMetricOf, RefusesACurvatureThatDoesNotFit) {
  const auto error = [&](const OutputCurvature& curvature) {
    const absl::Status status =
        MakeMethod("alps")
            ->PruneLinear(Problem(w_, Sparsity::Fraction(0.5), &curvature), pool_)
            .status();
    EXPECT_EQ(FieldAtFault(status), "curvature");
    return std::string(status.message());
  };
  EXPECT_THAT(error(CurvatureOf({8, 15})),
              HasSubstr("must have the 24 outputs of the map, got 23"));
  EXPECT_THAT(error({}), HasSubstr("got 0"));
  OutputCurvature bad = CurvatureOf({8, 16});
  std::swap(bad.blocks[0], bad.blocks[1]);
  EXPECT_THAT(error(bad), HasSubstr("must have a block that begins at output 0"));
  bad = CurvatureOf({8, 16});
  bad.blocks[1].moments(3, 4) = std::numeric_limits<double>::quiet_NaN();
  EXPECT_THAT(error(bad), HasSubstr("must be finite, and at least 0 on its diagonal, got nan for "
                                    "outputs 11 and 12"));
  bad.blocks[1].moments(3, 4) = 0;
  bad.blocks[1].moments(3, 3) = -1;
  EXPECT_THAT(error(bad), HasSubstr("got -1 for outputs 11 and 11"));
}

TEST_F(AlpsMetricOf, RefusesSeveralMapsAndAMeanThatOverflows) {
  const OutputCurvature curvature = CurvatureOf({24});
  LinearProblem problem = Problem(w_, Sparsity::Fraction(0.5), &curvature);
  problem.maps.push_back(problem.maps[0]);
  EXPECT_THAT(MakeMethod("alps")->PruneLinear(problem, pool_).status().message(),
              HasSubstr("curvature must be of one map, got 2 maps"));
  OutputCurvature endless = IdentityCurvature(24);
  for (Index i = 0; i < 24; ++i) endless.blocks[0].moments(i, i) = 1e308;
  EXPECT_THAT(PrepareMetric(endless, kMetricShare, pool_).status().message(),
              HasSubstr("curvature"));
}

TEST(AlpsMetricCosts, OfBlocksAreLessThanOfOneAndGrowWithTheSteps) {
  const auto chosen = [](const char* text) {
    return ChooseMethod(ParseMethodSpec(text).value()).value();
  };
  const auto operations = [&](const std::vector<Index>& blocks, const char* text) {
    const ChosenMethod method = chosen(text);
    return method.info->coupled->operations(blocks, 256, method.values);
  };
  const auto bytes = [&](const std::vector<Index>& blocks) {
    const ChosenMethod method = chosen("alps");
    return method.info->coupled->bytes(blocks, 256, method.values, 2);
  };
  const double square = 256.0 * 256 * 256;
  EXPECT_DOUBLE_EQ(operations({256}, "alps:steps=100"), (18 + 2 * 222 * 2) * square);
  EXPECT_LT(operations({128, 128}, "alps"), operations({256}, "alps"));
  EXPECT_GT(bytes({256}), bytes({128, 128}));
}

}  // namespace
}  // namespace attnprune
