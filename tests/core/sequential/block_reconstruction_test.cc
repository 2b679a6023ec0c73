// Training of what is kept of a block.
#include "core/sequential/block_reconstruction.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <memory>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include "core/model/layer_forward.h"
#include "tests/core/model/golden_models.h"
#include "tests/support/matrices.h"
#include "tests/support/value_or_die.h"

namespace attnprune {
namespace {

using testing::GaussianMatrix;
using testing::GoldenModel;
using testing::ValueOrDie;

constexpr LinearMap kKeptMaps[] = {LinearMap::kQuery,  LinearMap::kKey, LinearMap::kValue,
                                   LinearMap::kOutput, LinearMap::kUp,  LinearMap::kDown};
constexpr Index kReconstructed = 1;

// R of some output, as one block or as two.
OutputCurvature Metric(Index hidden, bool in_two) {
  ThreadPool pool(1);
  OutputCurvature metric;
  const Index half = hidden / 2;
  const std::vector<Index> sizes =
      in_two ? std::vector<Index>{half, hidden - half} : std::vector<Index>{hidden};
  Index first = 0;
  for (const Index size : sizes) {
    const Matrix gradients = GaussianMatrix(2 * hidden, size, 7);
    metric.blocks.push_back({.first = first, .moments = Gram(gradients, pool)});
    first += size;
  }
  return metric;
}

class ReconstructionTest : public ::testing::Test {
 protected:
  struct Outcome {
    absl::Status status;
    TrainingPoint point;
    std::vector<float> weights;
    std::vector<double> losses;  // by step
  };

  // A block of a golden model, every third weight of whose maps is removed; five rows, of which the
  // second decides.
  void Open(const std::string& model, int threads = 2) {
    pool_ = std::make_unique<ThreadPool>(threads);
    forward_ = ValueOrDie(Forward::Open(GoldenModel(model), *pool_));
    const Index hidden = forward_->options().hidden_size;
    const Index tokens = std::accumulate(lengths_.begin(), lengths_.end(), Index{0});
    inputs_ = GaussianMatrix(tokens, hidden, 1);
    dense_ = GaussianMatrix(tokens, hidden, 2);
    for (Index i = 0; i < dense_.size(); ++i) {  // not far from each other
      dense_.data()[i] = inputs_.data()[i] + 0.2f * dense_.data()[i];
    }
  }

  LayerWeights Pruned() const {
    LayerWeights weights;
    EXPECT_TRUE(forward_->weights().LoadLayer(kReconstructed, *pool_, weights).ok());
    for (const LinearMap map : kKeptMaps) {
      const MutableMatrixView w = weights.Mutable(map);
      for (Index i = 0; i < w.size(); i += 3) w.data()[i] = 0.0f;
    }
    return weights;
  }

  ReconstructionProblem Problem() {
    return {
        .layer = kReconstructed,
        .inputs = {lengths_, inputs_},
        .dense = {lengths_, dense_},
        .dense_share = dense_share_,
        .metric = metric_ ? Metric(forward_->options().hidden_size, in_two_) : OutputCurvature(),
        .decides = {false, true, false, false, false}};
  }

  std::unique_ptr<BlockReconstruction> Begin(const TrainingOptions& options) {
    return ValueOrDie(BlockReconstruction::Create(*forward_, *pool_, Problem(), Pruned(),
                                                  {std::begin(kKeptMaps), std::end(kKeptMaps)},
                                                  options));
  }

  // What a layer makes of one row, and its attention matrices behind each other.
  struct Passed {
    Matrix out;
    std::vector<double> attention;
  };
  Passed Pass(const LayerWeights& weights, MatrixView x) const {
    const ModelOptions& options = forward_->options();
    LayerForward layer(options, *pool_);
    Passed passed{.out = Matrix::CopyFrom(x), .attention = {}};
    LayerHooks hooks;
    hooks.queries_and_keys = [&](Index, MatrixView q, MatrixView k) {
      for (Index head = 0; head < options.heads; ++head) {
        const Matrix a = layer.Attention(kReconstructed, q, k, head);
        passed.attention.insert(passed.attention.end(), a.data(), a.data() + a.size());
      }
    };
    const Index length = x.rows();
    EXPECT_TRUE(layer.Run(kReconstructed, weights, {&length, 1}, passed.out, hooks));
    return passed;
  }

  // stop_after: steps, after which it is stopped and another goes on; 0: never.
  Outcome Train(const TrainingOptions& options, int stop_after = 0,
                const PassOptions& places = {}) {
    Outcome outcome;
    std::unique_ptr<BlockReconstruction> run = Begin(options);
    if (stop_after > 0) {
      const absl::Status stopped =
          run->Run(places, nullptr, [&](const TrainingPoint& point, double loss) {
            outcome.losses.push_back(loss);
            return point.steps < stop_after;
          });
      EXPECT_EQ(stopped.code(), absl::StatusCode::kCancelled);
      std::unique_ptr<BlockReconstruction> next = Begin(options);
      const auto from = run->Values(0), to = next->Values(0);
      for (size_t i = 0; i < to.size(); ++i) {
        std::copy(from[i].begin(), from[i].end(), to[i].begin());
      }
      next->SetPoint(run->point());
      run = std::move(next);
    }
    outcome.status = run->Run(places, nullptr, [&](const TrainingPoint&, double loss) {
      outcome.losses.push_back(loss);
      return true;
    });
    outcome.point = run->point();
    const auto flat = run->weights().storage.flat();
    outcome.weights.assign(flat.begin(), flat.end());
    return outcome;
  }

  // Of the first step, on all rows that are trained on, with weights moved by amount * direction.
  double LossAt(double amount, const std::vector<std::vector<float>>& direction) {
    const std::unique_ptr<BlockReconstruction> run = Begin({.steps = 1, .rows = 4});
    const auto values = run->Values(0);
    for (size_t map = 0; map < direction.size(); ++map) {
      const absl::Span<float> weights = values[4 * map];
      for (size_t i = 0; i < weights.size(); ++i) {
        weights[i] += static_cast<float>(amount * double{direction[map][i]});
      }
    }
    double found = NAN;
    EXPECT_TRUE(run->Run({}, nullptr,
                         [&](const TrainingPoint&, double loss) {
                           found = loss;
                           return true;
                         })
                    .ok());
    return found;
  }

  std::vector<Index> lengths_ = {9, 5, 7, 8, 6};
  double dense_share_ = 0.5;
  bool metric_ = true, in_two_ = false;
  Matrix inputs_, dense_;
  std::unique_ptr<ThreadPool> pool_;
  std::unique_ptr<Forward> forward_;
};

// Adam's first moment after its first step is a tenth of the gradient.
TEST_F(ReconstructionTest, FollowsTheGradientOfCentralDifferences) {
  for (const std::string model : {"llama", "gpt2", "gemma2", "phi", "qwen3"}) {
    SCOPED_TRACE(model);
    Open(model);
    const std::unique_ptr<BlockReconstruction> run = Begin({.steps = 1, .rows = 4});
    ASSERT_TRUE(run->Run({}, nullptr, nullptr).ok());
    std::vector<std::vector<float>> gradient;
    double squared = 0;
    const auto values = run->Values(0);
    for (size_t map = 0; map < std::size(kKeptMaps); ++map) {
      const absl::Span<const float> moment = values[4 * map + 1];
      std::vector<float>& g = gradient.emplace_back();
      for (const float m : moment) g.push_back(10 * m);
      for (const float value : g) squared += double{value} * double{value};
    }
    const double amount = 1e-3 / std::sqrt(squared);
    const double slope = (LossAt(amount, gradient) - LossAt(-amount, gradient)) / (2 * amount);
    EXPECT_GT(squared, 0);
    EXPECT_NEAR(slope, squared, 0.01 * squared);
  }
}

// The formula of block_reconstruction.h on the row that decides, in float64 but for the layer.
TEST_F(ReconstructionTest, StartsAtTheLossOfTheFormula) {
  Open("llama");
  dense_share_ = 0.3;
  in_two_ = true;
  const ReconstructionProblem problem = Problem();
  const Index first = lengths_[0], n = lengths_[1], hidden = forward_->options().hidden_size;
  const Matrix x = Matrix::CopyFrom(MatrixView(inputs_).Rows(first, n));
  const Matrix z = Matrix::CopyFrom(MatrixView(dense_).Rows(first, n));
  Matrix m(n, hidden);
  for (Index i = 0; i < m.size(); ++i) m.data()[i] = 0.7f * x.data()[i] + 0.3f * z.data()[i];
  LayerWeights dense;
  ASSERT_TRUE(forward_->weights().LoadLayer(kReconstructed, *pool_, dense).ok());
  const Passed own = Pass(Pruned(), x), dense_own = Pass(dense, x), beside = Pass(dense, z),
               mixed = Pass(dense, m);
  const auto error = [&](Index i, Index j) {
    const double y = 0.7 * double{dense_own.out(i, j)} + 0.3 * double{beside.out(i, j)};
    return std::pair(double{own.out(i, j)} - y, y - double{x(i, j)});
  };
  double mean = 0, off = 0, size = 0;
  for (const auto& block : problem.metric.blocks) {
    for (Index a = 0; a < block.moments.size(); ++a) {
      mean += block.moments(a, a) / static_cast<double>(hidden);
    }
  }
  for (const auto& block : problem.metric.blocks) {
    for (Index a = 0; a < block.moments.size(); ++a) {
      for (Index b = 0; b < block.moments.size(); ++b) {
        const double metric = 0.9 * block.moments(a, b) / mean + (a == b ? 0.1 : 0);
        for (Index i = 0; i < n; ++i) {
          const auto [off_a, size_a] = error(i, block.first + a);
          const auto [off_b, size_b] = error(i, block.first + b);
          off += off_a * metric * off_b;
          size += size_a * metric * size_b;
        }
      }
    }
  }
  double attention_off = 0, attention_size = 0;
  for (size_t i = 0; i < own.attention.size(); ++i) {
    const double wanted = mixed.attention[i];
    attention_off += (own.attention[i] - wanted) * (own.attention[i] - wanted);
    attention_size += wanted * wanted;
  }
  const double expected = off / size + 0.1 * attention_off / attention_size;
  EXPECT_GT(attention_off, 0);
  EXPECT_NEAR(*Train({.steps = 1}).point.start, expected, 1e-4 * expected);
}

TEST_F(ReconstructionTest, ComesNearerToTheDenseBlockOnRowsItDoesNotTrainOn) {
  for (const std::string model : {"llama", "gpt2", "gemma2", "phi"}) {
    SCOPED_TRACE(model);
    lengths_ = {60, 50, 70, 80, 60};
    Open(model);
    const Outcome trained = Train({.steps = 60, .rows = 2, .rate = 0.01});
    ASSERT_TRUE(trained.status.ok()) << trained.status;
    EXPECT_EQ(trained.point.steps, 60);
    EXPECT_GT(trained.point.best_step, 0);
    EXPECT_LT(*trained.point.best, 0.95 * *trained.point.start);
  }
}

// Nothing is pruned, nothing is to be otherwise: y is what the block gives, m what it is given.
TEST_F(ReconstructionTest, HasNoLossWhereTheBlockIsTheDenseOne) {
  Open("llama");
  dense_share_ = 0;
  LayerWeights weights;
  ASSERT_TRUE(forward_->weights().LoadLayer(kReconstructed, *pool_, weights).ok());
  const auto run = ValueOrDie(BlockReconstruction::Create(
      *forward_, *pool_, Problem(), std::move(weights), {LinearMap::kDown}, {.steps = 1}));
  ASSERT_TRUE(run->Run({}, nullptr, nullptr).ok());
  EXPECT_LT(*run->point().start, 1e-10);
  EXPECT_EQ(run->point().best_step, 0);
}

TEST_F(ReconstructionTest, ChangesWeightsThatAreKeptAndNoOthers) {
  lengths_ = {60, 50, 70, 80, 60};
  Open("llama");
  const LayerWeights pruned = Pruned();
  const auto start = pruned.storage.flat();
  const std::vector<float> trained = Train({.steps = 24, .rate = 0.01}).weights;
  ASSERT_EQ(start.size(), trained.size());
  size_t changed = 0, zeros = 0;
  for (size_t i = 0; i < start.size(); ++i) {
    if (start[i] == 0.0f) {
      ASSERT_EQ(trained[i], 0.0f) << i;
      ++zeros;
    } else if (start[i] != trained[i]) {
      ++changed;
    }
  }
  EXPECT_GT(zeros, start.size() / 5);
  EXPECT_GT(changed, start.size() / 3);
}

TEST_F(ReconstructionTest, ReturnsTheStartWhereNothingIsBetter) {
  Open("llama");
  const Outcome wild = Train({.steps = 12, .rate = 1});
  ASSERT_TRUE(wild.status.ok());
  EXPECT_EQ(wild.point.best_step, 0);
  const LayerWeights pruned = Pruned();
  const auto start = pruned.storage.flat();
  EXPECT_EQ(wild.weights, std::vector<float>(start.begin(), start.end()));
}

TEST_F(ReconstructionTest, CountsOutputsByTheirCurvature) {
  Open("llama");
  const double start = *Train({.steps = 1}).point.start;
  in_two_ = true;
  const double in_two = *Train({.steps = 1}).point.start;
  EXPECT_NE(in_two, start);
  metric_ = false;
  const double alike = *Train({.steps = 1}).point.start;
  EXPECT_NE(alike, start);
  EXPECT_NE(alike, in_two);
}

TEST_F(ReconstructionTest, HasTheSameBitsOnAnyNumberOfThreadsAndInFiles) {
  const TrainingOptions options = {.steps = 13, .rows = 2, .seed = 5};
  Open("llama", 1);
  const std::vector<float> one = Train(options).weights;
  Open("llama", 3);
  EXPECT_EQ(Train(options).weights, one);
  EXPECT_EQ(Train(options, 0, {.memory_budget = 1}).weights, one);
}

TEST_F(ReconstructionTest, HasTheSameBitsWhereverItIsStopped) {
  Open("gemma2");
  const TrainingOptions options = {.steps = 13, .rows = 2};
  const Outcome whole = Train(options);
  for (const int stop_after : {1, 6, 12, 13}) {
    SCOPED_TRACE(stop_after);
    const Outcome resumed = Train(options, stop_after);
    EXPECT_EQ(resumed.losses, whole.losses);
    EXPECT_EQ(resumed.weights, whole.weights);
    EXPECT_EQ(resumed.point.best_step, whole.point.best_step);
  }
}

TEST_F(ReconstructionTest, RefusesACurvatureOfAnotherWidth) {
  Open("llama");
  ReconstructionProblem problem = Problem();
  problem.metric = Metric(forward_->options().hidden_size - 1, /*in_two=*/false);
  const auto run = BlockReconstruction::Create(*forward_, *pool_, std::move(problem), Pruned(),
                                               {LinearMap::kDown}, {});
  EXPECT_EQ(run.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(run.status().message(), ::testing::HasSubstr("curvature"));
}

TEST_F(ReconstructionTest, EndsWhereTheListenerSaysSo) {
  Open("llama");
  const std::unique_ptr<BlockReconstruction> run = Begin({.steps = 4});
  double before = 0;
  const absl::Status status = run->Run(
      {},
      [&](double share) {
        EXPECT_GE(share, before);
        before = share;
        return share < 0.5;
      },
      nullptr);
  EXPECT_EQ(status.code(), absl::StatusCode::kCancelled);
  EXPECT_LT(run->point().steps, 4);
}

}  // namespace
}  // namespace attnprune
