// Whole models against float64 runs of the published scripts: masks, weights and losses. Where the
// runs come from: tests/data/sequential/README.md.
#include "core/sequential/layer_pruner.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "core/io/safetensors.h"
#include "core/methods/registry.h"
#include "core/model/model_pass.h"
#include "tests/core/model/golden_models.h"
#include "tests/support/value_or_die.h"

namespace attnprune {
namespace {

using Side = LayerPruner::Side;
using testing::Doubles;
using testing::GoldenModel;

using testing::TestName;
using testing::ValueOrDie;

// What one of the float64 runs was given.
struct GoldenRun {
  explicit GoldenRun(const std::string& name)
      : file(ValueOrDie(SafetensorsFile::Open(TestData("/sequential/" + name + ".safetensors")))),
        model(file.metadata().at("model")),
        method(ValueOrDie(ParseMethod(file.metadata().at("method")))),
        groups(file.metadata().at("groups") == "True"),
        calibration(Read("calibration_ids")),
        held_out(Read("held_out_ids")) {
    const std::string n_of_m = file.metadata().at("n_m");
    sparsity = n_of_m == "None" ? Sparsity::Fraction(std::stod(file.metadata().at("rho")))
                                : Sparsity::NOfM(2, 4);
  }

  Tokens Read(const char* name) const {
    const TensorInfo& tensor = *ValueOrDie(file.Find(name));
    Tokens tokens;
    tokens.ids = ValueOrDie(ToIntegers(tensor.dtype, tensor.bytes));
    tokens.lengths.assign(static_cast<size_t>(tensor.shape[0]), tensor.shape[1]);
    return tokens;
  }

  Passes passes() const { return groups ? Passes::kByGroup : Passes::kOnce; }

  SafetensorsFile file;
  std::string model;
  std::unique_ptr<Method> method;
  Sparsity sparsity;
  bool groups;
  Tokens calibration, held_out;
};

class NoObserver final : public ProgressObserver {
 public:
  Verdict OnStep(const StepStats&, const Resumable&) override { return Verdict::kContinue; }
};

bool All(Index, const TensorMaps&) { return true; }

// Prunes every chosen tensor of the model; visit(tensor, what came of it).
template <typename Visit>
void PruneAll(const Forward& forward, ThreadPool& pool, const GoldenRun& run, const Method& method,
              const Chosen& chosen, Matrix& held_out, const Visit& visit) {
  Matrix x(run.calibration.total(), forward.options().hidden_size);
  ASSERT_TRUE(forward.Embed(run.calibration, x).ok());
  ASSERT_TRUE(forward.Embed(run.held_out, held_out).ok());
  const TokenStates calibration{run.calibration.lengths, x};
  const TokenStates scored{run.held_out.lengths, held_out};
  LayerPruner pruner(forward, pool);
  NoObserver observer;
  for (Index layer = 0; layer < forward.options().layer_count(); ++layer) {
    ASSERT_TRUE(pruner.Load(layer).ok());
    for (const Stretch& stretch :
         ValueOrDie(StretchesOf(forward.weights(), layer, run.passes(), chosen))) {
      ASSERT_TRUE(pruner.Collect(stretch, {calibration, {}, scored}).ok());
      for (const Stretch::Tensor& tensor : stretch.tensors) {
        visit(*tensor.what.stored,
              ValueOrDie(pruner.Prune(tensor, method, run.sparsity, {}, observer)));
      }
    }
    ASSERT_TRUE(pruner.Advance(Side::kCalibration, calibration).ok());
    ASSERT_TRUE(pruner.Advance(Side::kHeldOut, scored).ok());
  }
}

class GoldenSequential : public ::testing::TestWithParam<const char*> {};

INSTANTIATE_TEST_SUITE_P(Runs, GoldenSequential,
                         ::testing::Values("gemma2-wanda", "gpt-neox-wanda-2-4", "gpt2-sparsegpt",
                                           "llama-sparsegpt-groups", "llama-wanda"),
                         [](const auto& test) { return TestName(test.param); });

TEST_P(GoldenSequential, HasTheMasksTheWeightsAndTheLoss) {
  const GoldenRun run(GetParam());
  ThreadPool pool(2);
  const auto forward = ValueOrDie(Forward::Open(GoldenModel(run.model), pool));
  Matrix x(run.held_out.total(), forward->options().hidden_size);
  int tensors = 0;
  PruneAll(*forward, pool, run, *run.method, All, x,
           [&](const TensorInfo& tensor, const PrunedWeights& pruned) {
             const TensorInfo& kept = *ValueOrDie(run.file.Find("mask." + tensor.name));
             const std::vector<int64_t> mask = ValueOrDie(ToIntegers(kept.dtype, kept.bytes));
             int differ = 0;
             for (size_t i = 0; i < mask.size(); ++i) {
               differ += (mask[i] != 0) != pruned.mask.kept(static_cast<Index>(i)) ? 1 : 0;
             }
             EXPECT_EQ(differ, 0) << tensor.name;
             if (run.file.Contains("pruned." + tensor.name)) {
               const std::vector<double> expected = Doubles(run.file, "pruned." + tensor.name);
               std::vector<float> weights(expected.size());
               ASSERT_TRUE(ToFloat32(tensor.dtype, pruned.bytes, absl::MakeSpan(weights)).ok());
               for (size_t i = 0; i < weights.size(); ++i) {
                 EXPECT_NEAR(weights[i], expected[i], 1e-3 * (1 + std::abs(expected[i])));
               }
             }
             EXPECT_GT(pruned.calibration_error, 0);
             EXPECT_LT(pruned.calibration_error, 1);
             EXPECT_GT(*pruned.held_out_error, 0);
             EXPECT_LT(*pruned.held_out_error, 1.5);
             ++tensors;
           });
  EXPECT_GE(tensors, 8);
  const std::vector<double> losses = ValueOrDie(forward->TokenLosses(run.held_out, x));
  EXPECT_NEAR(Summarize(losses).nats_per_token, Doubles(run.file, "loss_after")[0], 1e-4);
}

TEST(LayerPruner, GivesTheSameBitsOnAnyNumberOfThreads) {
  const GoldenRun run("llama-sparsegpt-groups");
  const auto alps = ValueOrDie(ParseMethod("alps"));
  const auto bytes_by = [&](int threads) {
    ThreadPool pool(threads);
    const auto forward = ValueOrDie(Forward::Open(GoldenModel("llama"), pool));
    Matrix x(run.held_out.total(), forward->options().hidden_size);
    std::vector<char> all;
    PruneAll(*forward, pool, run, *alps, All, x,
             [&](const TensorInfo&, const PrunedWeights& pruned) {
               all.insert(all.end(), pruned.bytes.begin(), pruned.bytes.end());
             });
    return all;
  };
  const std::vector<char> one = bytes_by(1);
  EXPECT_FALSE(one.empty());
  EXPECT_EQ(one, bytes_by(3));
}

TEST(LayerPruner, LeavesTensorsDenseThatNobodyChooses) {
  const GoldenRun run("llama-wanda");
  ThreadPool pool(1);
  const auto forward = ValueOrDie(Forward::Open(GoldenModel("llama"), pool));
  Matrix x(run.held_out.total(), forward->options().hidden_size);
  std::vector<std::string> names;
  PruneAll(
      *forward, pool, run, *run.method,
      [](Index layer, const TensorMaps& tensor) {
        return layer == 1 && tensor.maps[0] == LinearMap::kUp;
      },
      x, [&](const TensorInfo& tensor, const PrunedWeights&) { names.push_back(tensor.name); });
  EXPECT_THAT(names, ::testing::ElementsAre("model.layers.1.mlp.up_proj.weight"));
}

// As after a crash: what was pruned is put back, and the rest comes out with the same bits.
TEST(LayerPruner, GoesOnWithTheSameBitsFromTensorsThatWerePutBack) {
  const GoldenRun run("llama-sparsegpt-groups");
  ThreadPool pool(2);
  const auto forward = ValueOrDie(Forward::Open(GoldenModel("llama"), pool));
  const auto alps = ValueOrDie(ParseMethod("alps"));
  const auto stretches = ValueOrDie(StretchesOf(forward->weights(), 0, Passes::kByGroup, All));
  ASSERT_EQ(stretches.size(), 4u);
  // `known`: tensors of an earlier attempt, in order.
  const auto bytes_after = [&](std::vector<std::vector<char>> known) {
    Matrix x(run.calibration.total(), forward->options().hidden_size);
    EXPECT_TRUE(forward->Embed(run.calibration, x).ok());
    LayerPruner pruner(*forward, pool);
    EXPECT_TRUE(pruner.Load(0).ok());
    NoObserver observer;
    const size_t skipped = known.size();
    size_t place = 0;
    for (const Stretch& stretch : stretches) {
      EXPECT_TRUE(pruner.Collect(stretch, {{run.calibration.lengths, x}, {}, {}}).ok());
      for (const Stretch::Tensor& tensor : stretch.tensors) {
        if (place++ < skipped) {
          EXPECT_TRUE(pruner.Put(tensor.what, known[place - 1]).ok());
        } else {
          known.push_back(
              ValueOrDie(pruner.Prune(tensor, *alps, run.sparsity, {}, observer)).bytes);
        }
      }
    }
    return known;
  };
  const std::vector<std::vector<char>> whole = bytes_after({});
  ASSERT_EQ(whole.size(), 7u);
  for (const size_t kept : {size_t{1}, size_t{3}, size_t{6}}) {
    EXPECT_EQ(bytes_after({whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(kept)}),
              whole)
        << kept;
  }
}

TEST(LayerPruner, RefusesBytesThatDoNotFitAndStopsWhenToldTo) {
  const GoldenRun run("llama-wanda");
  ThreadPool pool(1);
  const auto forward = ValueOrDie(Forward::Open(GoldenModel("llama"), pool));
  Matrix x(run.calibration.total(), forward->options().hidden_size);
  ASSERT_TRUE(forward->Embed(run.calibration, x).ok());
  const TokenStates states{run.calibration.lengths, x};
  LayerPruner pruner(*forward, pool);
  ASSERT_TRUE(pruner.Load(0).ok());
  const auto stretches = ValueOrDie(StretchesOf(forward->weights(), 0, Passes::kOnce, All));
  ASSERT_EQ(stretches.size(), 1u);
  EXPECT_EQ(pruner.Put(stretches[0].tensors[0].what, std::string("too few")).code(),
            absl::StatusCode::kDataLoss);
  const auto no = [](double) { return false; };
  EXPECT_TRUE(absl::IsCancelled(pruner.Collect(stretches[0], {states, {}, {}}, no)));
  EXPECT_TRUE(absl::IsCancelled(pruner.Advance(Side::kCalibration, states, no)));
}

// Sequences of which a layer works on one or two at a time.
class LongRows : public ::testing::Test {
 protected:
  LongRows() {
    for (Index i = 0; i < 3 * 1100; ++i) tokens_.ids.push_back((i * i + 3 * i) % 50);
    tokens_.lengths = {1100, 1100, 600, 500};
  }

  Matrix States() {
    Matrix x(tokens_.total(), forward_->options().hidden_size);
    EXPECT_TRUE(forward_->Embed(tokens_, x).ok());
    return x;
  }
  TokenStates Of(Matrix& x) const { return {tokens_.lengths, x}; }

  ThreadPool pool_{2};
  std::unique_ptr<Forward> forward_ = ValueOrDie(Forward::Open(GoldenModel("llama"), pool_));
  Tokens tokens_;
};

std::vector<GramMatrix> Copies(const LayerPruner& pruner) {
  std::vector<GramMatrix> copies;
  for (const GramMatrix* moments : pruner.Moments()) copies.push_back(*moments);
  return copies;
}

void ExpectSame(const std::vector<GramMatrix>& a, const std::vector<GramMatrix>& b) {
  ASSERT_EQ(a.size(), b.size());
  for (size_t i = 0; i < a.size(); ++i) EXPECT_EQ(a[i].flat(), b[i].flat()) << i;
}

TEST_F(LongRows, GiveTheSameMomentsWhereverTheirPassWasInterrupted) {
  for (const double share : {0.0, 0.5}) {
    Matrix x = States(), dense = States(), held_out = States();
    const LayerPruner::Tokens tokens{Of(x), share > 0 ? Of(dense) : TokenStates{}, Of(held_out)};
    const auto stretches = ValueOrDie(StretchesOf(forward_->weights(), 0, Passes::kByGroup, All));
    LayerPruner whole(*forward_, pool_);
    ASSERT_TRUE(whole.Load(0, share).ok());
    int passes = 0;
    ASSERT_TRUE(whole.Collect(stretches[1], tokens, [&](double) { return ++passes > 0; }).ok());
    ASSERT_EQ(passes, 6);
    for (int stop = 1; stop <= passes; ++stop) {
      SCOPED_TRACE(stop);
      LayerPruner pruner(*forward_, pool_);
      ASSERT_TRUE(pruner.Load(0, share).ok());
      int seen = 0;
      EXPECT_TRUE(absl::IsCancelled(
          pruner.Collect(stretches[1], tokens, [&](double) { return ++seen < stop; })));
      StretchMoments begun{.calibration_rows = pruner.calibration_rows(),
                           .held_out_rows = pruner.held_out_rows()};
      std::vector<GramMatrix> moments = Copies(pruner);
      begun.calibration.push_back(moments[0]);
      if (share > 0) begun.cross = moments[1];
      if (moments.size() > (share > 0 ? 2u : 1u)) begun.held_out.push_back(moments.back());
      LayerPruner again(*forward_, pool_);
      ASSERT_TRUE(again.Load(0, share).ok());
      int left = 0;
      ASSERT_TRUE(
          again
              .Collect(
                  stretches[1], tokens, [&](double) { return ++left > 0; }, std::move(begun))
              .ok());
      EXPECT_EQ(left, passes - stop);
      ExpectSame(Copies(again), Copies(whole));
    }
  }
}

// The moments of what begins where the interrupted pass ended, and of the stretches behind it.
TEST_F(LongRows, GiveTheSameBitsInTheStretchesBehindAnInterruptedOne) {
  Matrix x = States(), dense = States();
  const LayerPruner::Tokens tokens{Of(x), Of(dense), {}};
  const auto stretches = ValueOrDie(StretchesOf(forward_->weights(), 0, Passes::kByGroup, All));
  // Those from `first` on, and what is behind the layer.
  const auto go_on = [&](LayerPruner& pruner, size_t first, StretchMoments begun) {
    std::vector<GramMatrix> all;
    for (size_t i = first; i < stretches.size(); ++i) {
      EXPECT_TRUE(pruner.Collect(stretches[i], tokens, nullptr, std::exchange(begun, {})).ok());
      for (GramMatrix& moments : Copies(pruner)) all.push_back(std::move(moments));
    }
    Matrix states = States();
    EXPECT_TRUE(pruner.Advance(Side::kCalibration, Of(states)).ok());
    return std::pair(std::move(all), std::move(states));
  };
  for (size_t stretch = 1; stretch < stretches.size(); ++stretch) {
    SCOPED_TRACE(stretch);
    LayerPruner whole(*forward_, pool_), stopped(*forward_, pool_), again(*forward_, pool_);
    for (LayerPruner* const pruner : {&whole, &stopped, &again}) {
      ASSERT_TRUE(pruner->Load(0, 0.5).ok());
    }
    ASSERT_TRUE(whole.Collect(stretches[stretch - 1], tokens).ok());
    const auto [moments, states] = go_on(whole, stretch, {});
    EXPECT_TRUE(absl::IsCancelled(
        stopped.Collect(stretches[stretch], tokens, [](double share) { return share < 0.5; })));
    const std::vector<GramMatrix> saved = Copies(stopped);
    const auto [same_moments, same_states] = go_on(again, stretch,
                                                   {.calibration_rows = stopped.calibration_rows(),
                                                    .calibration = {saved[0]},
                                                    .cross = saved[1]});
    ExpectSame(same_moments, moments);
    EXPECT_TRUE(std::equal(states.flat().begin(), states.flat().end(), same_states.flat().begin()));
  }
}

TEST_F(LongRows, RefuseMomentsOfAnotherStretchOrThatEndWithinASequence) {
  Matrix x = States();
  const auto stretches = ValueOrDie(StretchesOf(forward_->weights(), 0, Passes::kByGroup, All));
  LayerPruner pruner(*forward_, pool_);
  ASSERT_TRUE(pruner.Load(0).ok());
  ASSERT_TRUE(pruner.Collect(stretches[1], {Of(x), {}, {}}).ok());
  const StretchMoments good{.calibration_rows = 1100, .calibration = Copies(pruner)};
  EXPECT_TRUE(pruner.Collect(stretches[1], {Of(x), {}, {}}, nullptr, good).ok());
  StretchMoments within = good;
  within.calibration_rows = 1000;
  EXPECT_TRUE(absl::IsDataLoss(pruner.Collect(stretches[1], {Of(x), {}, {}}, nullptr, within)));
  EXPECT_TRUE(absl::IsDataLoss(pruner.Collect(stretches[3], {Of(x), {}, {}}, nullptr, good)))
      << "down has other inputs";
}

TEST_F(LongRows, AdvanceWithTheSameBitsFromWhereTheyWereStopped) {
  Matrix whole = States();
  LayerPruner pruner(*forward_, pool_);
  ASSERT_TRUE(pruner.Load(0).ok());
  ASSERT_TRUE(pruner.Advance(Side::kCalibration, Of(whole)).ok());
  const Index ends[] = {1100, 2800, 3300};  // of what a layer works on together
  for (int stop = 1; stop <= 3; ++stop) {
    Matrix x = States();
    int seen = 0;
    EXPECT_TRUE(absl::IsCancelled(
        pruner.Advance(Side::kCalibration, Of(x), [&](double) { return ++seen < stop; })));
    ASSERT_TRUE(pruner.Advance(Side::kCalibration, Of(x), nullptr, ends[stop - 1]).ok());
    EXPECT_TRUE(std::equal(x.flat().begin(), x.flat().end(), whole.flat().begin()));
  }
  Matrix x = States();
  EXPECT_TRUE(absl::IsDataLoss(pruner.Advance(Side::kCalibration, Of(x), nullptr, 5)));
}

}  // namespace
}  // namespace attnprune
