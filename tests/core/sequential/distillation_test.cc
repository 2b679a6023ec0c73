// Training of what is kept of a pruned model.
#include "core/sequential/distillation.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "tests/core/model/golden_models.h"
#include "tests/support/value_or_die.h"

namespace attnprune {
namespace {

using testing::GoldenModel;
using testing::ValueOrDie;

constexpr LinearMap kTrained[] = {LinearMap::kQuery,  LinearMap::kKey, LinearMap::kValue,
                                  LinearMap::kOutput, LinearMap::kUp,  LinearMap::kDown};

// Rows of different lengths, of a vocabulary that every golden model has.
Tokens Rows(int64_t first, const std::vector<Index>& lengths) {
  Tokens rows{{}, lengths};
  for (const Index length : lengths) {
    for (Index i = 0; i < length; ++i) rows.ids.push_back((first++ * 7 + 3) % 29);
  }
  return rows;
}

// Rows that are trained on, and behind them those that decide.
std::pair<Tokens, std::vector<bool>> Split(Tokens training, const Tokens& validation) {
  std::vector<bool> decides(training.lengths.size(), false);
  decides.resize(training.lengths.size() + validation.lengths.size(), true);
  training.ids.insert(training.ids.end(), validation.ids.begin(), validation.ids.end());
  training.lengths.insert(training.lengths.end(), validation.lengths.begin(),
                          validation.lengths.end());
  return {std::move(training), std::move(decides)};
}

// Every third weight of the trained maps removed.
LayerWeights Pruned(const Forward& forward, Index layer) {
  LayerWeights weights;
  EXPECT_TRUE(forward.weights().LoadLayer(layer, forward.pool(), weights).ok());
  for (const LinearMap map : kTrained) {
    const MutableMatrixView w = weights.Mutable(map);
    for (Index i = 0; i < w.size(); i += 3) w.data()[i] = 0.0f;
  }
  return weights;
}

class DistillationTest : public ::testing::Test {
 protected:
  struct Outcome {
    absl::Status status;
    TrainingPoint point;
    std::vector<float> weights;  // of all layers
    std::vector<double> losses;  // by step
  };

  // stop_after: steps, after which it is stopped and another goes on; 0: never.
  Outcome Train(const TrainingOptions& options, int threads = 2, int stop_after = 0,
                const PassOptions& places = {}) {
    ThreadPool pool(threads);
    const auto forward = ValueOrDie(Forward::Open(GoldenModel(model_), pool));
    const auto begin = [&] {
      const auto [rows, decides] = Split(Rows(0, {9, 5, 7, 8, 6}), Rows(40, {8, 6}));
      auto made = std::make_unique<Distillation>(*forward, pool, rows, decides, options);
      for (Index layer = 0; layer < forward->options().layer_count(); ++layer) {
        EXPECT_TRUE(
            made->Add(Pruned(*forward, layer), {std::begin(kTrained), std::end(kTrained)}).ok());
      }
      return made;
    };
    Outcome outcome;
    std::unique_ptr<Distillation> run = begin();
    if (stop_after > 0) {
      const absl::Status stopped =
          run->Run(places, nullptr, [&](const TrainingPoint& point, double loss) {
            outcome.losses.push_back(loss);
            return point.steps < stop_after;
          });
      EXPECT_EQ(stopped.code(), absl::StatusCode::kCancelled);
      std::unique_ptr<Distillation> next = begin();
      for (Index layer = 0; layer < forward->options().layer_count(); ++layer) {
        const auto from = run->Values(layer), to = next->Values(layer);
        for (size_t i = 0; i < to.size(); ++i) {
          std::copy(from[i].begin(), from[i].end(), to[i].begin());
        }
      }
      next->SetPoint(run->point());
      run = std::move(next);
    }
    outcome.status = run->Run(places, nullptr, [&](const TrainingPoint&, double loss) {
      outcome.losses.push_back(loss);
      return true;
    });
    outcome.point = run->point();
    for (Index layer = 0; layer < forward->options().layer_count(); ++layer) {
      const auto flat = run->layer(layer).storage.flat();
      outcome.weights.insert(outcome.weights.end(), flat.begin(), flat.end());
    }
    return outcome;
  }

  // Of one map a layer.
  std::unique_ptr<Distillation> OfDown(const Tokens& training, const Tokens& validation,
                                       int steps) {
    const auto [rows, decides] = Split(training, validation);
    auto run = std::make_unique<Distillation>(*forward_, pool_, rows, decides,
                                              TrainingOptions{.steps = steps});
    for (Index layer = 0; layer < forward_->options().layer_count(); ++layer) {
      EXPECT_TRUE(run->Add(Pruned(*forward_, layer), {LinearMap::kDown}).ok());
    }
    return run;
  }

  // As given, before any training.
  std::vector<float> Start() {
    ThreadPool pool(1);
    const auto forward = ValueOrDie(Forward::Open(GoldenModel(model_), pool));
    std::vector<float> weights;
    for (Index layer = 0; layer < forward->options().layer_count(); ++layer) {
      const LayerWeights one = Pruned(*forward, layer);
      weights.insert(weights.end(), one.storage.flat().begin(), one.storage.flat().end());
    }
    return weights;
  }

  std::string model_ = "llama";
  ThreadPool pool_{1};
  const std::unique_ptr<Forward> forward_ = ValueOrDie(Forward::Open(GoldenModel("llama"), pool_));
};

TEST_F(DistillationTest, PredictsMoreLikeTheDenseModelOnRowsItDoesNotTrainOn) {
  for (const std::string model : {"llama", "gpt2", "gemma2", "phi"}) {
    SCOPED_TRACE(model);
    model_ = model;
    const Outcome trained = Train({.steps = 60, .rows = 3, .rate = 0.01});
    ASSERT_TRUE(trained.status.ok()) << trained.status;
    EXPECT_EQ(trained.point.steps, 60);
    EXPECT_GT(trained.point.best_step, 0);
    EXPECT_LT(*trained.point.best, *trained.point.start);
    EXPECT_LT(trained.losses.back(), trained.losses.front());
  }
}

TEST_F(DistillationTest, ChangesWeightsThatAreKeptAndNoOthers) {
  const std::vector<float> start = Start(), trained = Train({.steps = 24, .rate = 0.01}).weights;
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
  EXPECT_GT(changed, start.size() / 2);
}

TEST_F(DistillationTest, LeavesMapsThatAreNotTrained) {
  const std::unique_ptr<Distillation> run = OfDown(Rows(0, {9, 5, 7, 8, 6}), Rows(40, {8, 6}), 24);
  ASSERT_TRUE(run->Run({}, nullptr, nullptr).ok());
  ASSERT_GT(run->point().best_step, 0);
  const LayerWeights start = Pruned(*forward_, 0);
  const auto same = [&](LinearMap map) {
    const MatrixView a = start.of(map).weight, b = run->layer(0).of(map).weight;
    return std::equal(a.data(), a.data() + a.size(), b.data());
  };
  EXPECT_TRUE(same(LinearMap::kQuery));
  EXPECT_TRUE(same(LinearMap::kUp));
  EXPECT_FALSE(same(LinearMap::kDown));
}

TEST_F(DistillationTest, ReturnsTheStartWhereNothingIsBetter) {
  const Outcome wild = Train({.steps = 12, .rate = 1});
  ASSERT_TRUE(wild.status.ok());
  EXPECT_EQ(wild.point.best_step, 0);
  EXPECT_EQ(*wild.point.best, *wild.point.start);
  EXPECT_EQ(wild.weights, Start());
}

TEST_F(DistillationTest, HasTheSameBitsOnAnyNumberOfThreadsAndInFiles) {
  const Outcome one = Train({.steps = 13, .rows = 2, .seed = 5}, 1);
  EXPECT_EQ(Train({.steps = 13, .rows = 2, .seed = 5}, 3).weights, one.weights);
  EXPECT_EQ(Train({.steps = 13, .rows = 2, .seed = 5}, 2, 0, {.memory_budget = 1}).weights,
            one.weights);
}

TEST_F(DistillationTest, HasTheSameBitsWhereverItIsStopped) {
  const TrainingOptions options = {.steps = 13, .rows = 2};
  const Outcome whole = Train(options);
  for (const int stop_after : {1, 6, 12, 13}) {
    SCOPED_TRACE(stop_after);
    const Outcome resumed = Train(options, 2, stop_after);
    EXPECT_EQ(resumed.losses, whole.losses);
    EXPECT_EQ(resumed.weights, whole.weights);
    EXPECT_EQ(resumed.point.best_step, whole.point.best_step);
  }
}

TEST_F(DistillationTest, TakesItsRowsInAnOrderOfTheSeed) {
  EXPECT_NE(Train({.steps = 6, .rows = 1, .seed = 1}).losses,
            Train({.steps = 6, .rows = 1, .seed = 2}).losses);
}

TEST_F(DistillationTest, EndsWithTheBestWeightsWhereTheLossIsNoLongerFinite) {
  const std::unique_ptr<Distillation> run = OfDown(Rows(0, {9}), Rows(40, {8}), 20);
  const absl::Status status = run->Run({}, nullptr, [&](const TrainingPoint& point, double) {
    if (point.steps == 7) run->Values(0)[0][1] = std::numeric_limits<float>::quiet_NaN();
    return true;
  });
  ASSERT_TRUE(status.ok()) << status;
  EXPECT_EQ(run->point().steps, 7);
  EXPECT_TRUE(std::isfinite(run->layer(0).of(LinearMap::kDown).weight(0, 1)));
}

TEST_F(DistillationTest, EndsWhereTheListenerSaysSo) {
  const std::unique_ptr<Distillation> run = OfDown(Rows(0, {9}), Rows(40, {8}), 4);
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
