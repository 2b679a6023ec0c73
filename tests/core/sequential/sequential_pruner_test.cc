// Whole models against float64 runs of the published scripts: masks, weights and losses. Where the
// runs come from: tests/data/sequential/README.md.
#include "core/sequential/sequential_pruner.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "core/io/safetensors.h"
#include "core/methods/registry.h"
#include "tests/core/model/golden_models.h"
#include "tests/support/value_or_die.h"

namespace attnprune {
namespace {

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

  SequentialOptions Options() const {
    SequentialOptions options;
    options.choose = [this](Index, LinearMap) { return MapChoice{method.get(), sparsity}; };
    options.groups = groups;
    return options;
  }

  SafetensorsFile file;
  std::string model;
  std::unique_ptr<Method> method;
  Sparsity sparsity;
  bool groups;
  Tokens calibration, held_out;
};

// Calls visit(flat index in the tensor, row, column of the map) for every weight of the map.
template <typename Visit>
void ForWeights(const StoredMap& stored, const Visit& visit) {
  Index row = 0;
  for (const RowRun& run : stored.rows) {
    for (Index i = run.first; i < run.first + run.count; ++i, ++row) {
      for (Index j = 0; j < stored.in; ++j) {
        const Index flat = stored.transposed ? j * stored.weight->shape[1] + i : i * stored.in + j;
        visit(static_cast<size_t>(flat), row, j);
      }
    }
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
  SequentialPruner pruner =
      ValueOrDie(SequentialPruner::Create(*forward, pool, run.calibration, run.Options()));
  Matrix x(run.held_out.total(), forward->options().hidden_size);
  ASSERT_TRUE(forward->Embed(run.held_out, x).ok());
  LayerForward layer(forward->options(), pool);
  int maps = 0;
  while (!pruner.done()) {
    const Index number = pruner.next_layer();
    for (const PrunedMap& pruned : ValueOrDie(pruner.PruneNext())) {
      const StoredMap stored = *ValueOrDie(forward->weights().Map(number, pruned.map));
      const std::string& tensor = stored.weight->name;
      const TensorInfo& kept = *ValueOrDie(run.file.Find("mask." + tensor));
      const std::vector<int64_t> mask = ValueOrDie(ToIntegers(kept.dtype, kept.bytes));
      const bool has_weights = run.file.Contains("pruned." + tensor);
      const std::vector<double> weights =
          has_weights ? Doubles(run.file, "pruned." + tensor) : std::vector<double>();
      int differ = 0;
      ForWeights(stored, [&](size_t flat, Index i, Index j) {
        differ += (mask[flat] != 0) != pruned.mask.kept(i, j) ? 1 : 0;
        if (has_weights) {
          EXPECT_NEAR(pruned.weights(i, j), weights[flat], 1e-3 * (1 + std::abs(weights[flat])));
        }
      });
      EXPECT_EQ(differ, 0) << tensor << ", " << ToString(pruned.map);
      EXPECT_GT(pruned.linear_error, 0);
      EXPECT_LT(pruned.linear_error, 1);
      ++maps;
    }
    layer.Run(number, pruner.weights(), run.held_out.lengths, x);
  }
  EXPECT_GE(maps, 12);
  const std::vector<double> losses = ValueOrDie(forward->TokenLosses(run.held_out, x));
  EXPECT_NEAR(Summarize(losses).nats_per_token, Doubles(run.file, "loss_after")[0], 1e-4);
}

TEST(SequentialPruner, GivesTheSameBitsOnAnyNumberOfThreadsAndFromAFile) {
  const GoldenRun run("llama-sparsegpt-groups");
  const auto alps = ValueOrDie(ParseMethod("alps"));
  const auto weights_of = [&](int threads, int64_t budget) {
    ThreadPool pool(threads);
    const auto forward = ValueOrDie(Forward::Open(GoldenModel("llama"), pool));
    SequentialOptions options = run.Options();
    options.choose = [&](Index, LinearMap) { return MapChoice{alps.get(), run.sparsity}; };
    options.pass = {.memory_budget = budget, .spill_folder = "/tmp"};
    SequentialPruner pruner =
        ValueOrDie(SequentialPruner::Create(*forward, pool, run.calibration, options));
    std::vector<float> all;
    while (!pruner.done()) {
      for (const PrunedMap& map : ValueOrDie(pruner.PruneNext())) {
        all.insert(all.end(), map.weights.flat().begin(), map.weights.flat().end());
      }
    }
    return all;
  };
  const std::vector<float> one = weights_of(1, 0);
  EXPECT_EQ(one, weights_of(3, 0));
  EXPECT_EQ(one, weights_of(2, /*budget=*/1));
}

TEST(SequentialPruner, LeavesMapsDenseThatNobodyChooses) {
  const GoldenRun run("llama-wanda");
  ThreadPool pool(1);
  const auto forward = ValueOrDie(Forward::Open(GoldenModel("llama"), pool));
  SequentialOptions options = run.Options();
  options.choose = [&](Index layer, LinearMap map) -> absl::optional<MapChoice> {
    if (layer == 1 && map == LinearMap::kUp) return MapChoice{run.method.get(), run.sparsity};
    return absl::nullopt;
  };
  SequentialPruner pruner =
      ValueOrDie(SequentialPruner::Create(*forward, pool, run.calibration, options));
  EXPECT_TRUE(ValueOrDie(pruner.PruneNext()).empty());
  const std::vector<PrunedMap> pruned = ValueOrDie(pruner.PruneNext());
  ASSERT_EQ(pruned.size(), 1u);
  EXPECT_EQ(pruned[0].map, LinearMap::kUp);
}

TEST(SequentialPruner, CanBeStoppedAndGoesOnWithTheSameLayer) {
  const GoldenRun run("llama-wanda");
  ThreadPool pool(1);
  const auto forward = ValueOrDie(Forward::Open(GoldenModel("llama"), pool));
  bool stop = true;
  SequentialOptions options = run.Options();
  options.pass.stopped = [&stop] { return stop; };
  SequentialPruner pruner =
      ValueOrDie(SequentialPruner::Create(*forward, pool, run.calibration, options));
  EXPECT_TRUE(absl::IsCancelled(pruner.PruneNext().status()));
  EXPECT_EQ(pruner.next_layer(), 0);
  stop = false;
  EXPECT_EQ(ValueOrDie(pruner.PruneNext()).size(), 7u);
}

}  // namespace
}  // namespace attnprune
