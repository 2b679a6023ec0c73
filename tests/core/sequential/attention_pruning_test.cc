// Queries and keys of a layer pruned together within a run, against the layer's attention problem
// put together by hand and solved as a job's is.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include "core/judge/score.h"
#include "core/methods/registry.h"
#include "core/model/attention_layer.h"
#include "core/sequential/layer_pruner.h"
#include "tests/core/model/golden_models.h"
#include "tests/support/value_or_die.h"

namespace attnprune {
namespace {

using testing::GoldenModel;
using testing::TestName;
using testing::ValueOrDie;

constexpr Index kLayer = 1;

class CountingObserver final : public ProgressObserver {
 public:
  explicit CountingObserver(int stop_at = 0) : stop_at_(stop_at) {}
  Verdict OnStep(const StepStats& stats, const Resumable&) override {
    ++steps_;
    EXPECT_GT(stats.steps, 0);
    return steps_ == stop_at_ ? Verdict::kStop : Verdict::kContinue;
  }
  int steps() const { return steps_; }

 private:
  const int stop_at_;
  int steps_ = 0;
};

// Rows of different lengths, of a model's own ids.
Tokens TokensFor(const ModelOptions& options, std::vector<Index> lengths, Index first) {
  Tokens tokens;
  tokens.lengths = std::move(lengths);
  const Index total = std::accumulate(tokens.lengths.begin(), tokens.lengths.end(), Index{0});
  for (Index i = 0; i < total; ++i) {
    tokens.ids.push_back((first + 7 * i + i * i) % options.vocab);
  }
  return tokens;
}

// A model with hidden states of some rows before one of its layers.
struct Bench {
  explicit Bench(const std::string& name, Index layer = kLayer)
      : folder(GoldenModel(name)),
        forward(ValueOrDie(Forward::Open(folder, pool))),
        calibration(TokensFor(forward->options(), {11, 6, 11, 9}, 3)),
        held_out(TokensFor(forward->options(), {8, 5}, 5)),
        x(Before(calibration, layer)),
        y(Before(held_out, layer)) {}

  Matrix Before(const Tokens& tokens, Index layer) {
    Matrix states(tokens.total(), forward->options().hidden_size);
    EXPECT_TRUE(forward->Embed(tokens, states).ok());
    for (Index i = 0; i < layer; ++i) {
      EXPECT_TRUE(forward->RunLayer(i, tokens.lengths, states).ok());
    }
    return states;
  }
  LayerPruner::Tokens states() { return {{calibration.lengths, x}, {}, {held_out.lengths, y}}; }
  // The layer's inputs of q and k.
  Batches InputsOf(const Tokens& tokens, const Matrix& states, Index layer = kLayer) {
    Matrix copy = Matrix::CopyFrom(states);
    Matrix inputs(states.rows(), states.cols());
    LayerHooks hooks;
    hooks.until = LayerHooks::Until::kAttentionInput;
    hooks.attention_input = [&](Index first, MatrixView input) {
      std::copy_n(input.data(), input.size(), inputs.row(first));
    };
    EXPECT_TRUE(forward->RunLayer(layer, tokens.lengths, copy, hooks).ok());
    return Batches(std::move(inputs), tokens.lengths);
  }

  ThreadPool pool{2};
  std::string folder;
  std::unique_ptr<Forward> forward;
  Tokens calibration, held_out;
  Matrix x, y;
};

std::vector<Stretch> Stretches(const Forward& forward, Index layer, Passes passes) {
  const Chosen all = [](Index, const TensorMaps&) { return true; };
  return ValueOrDie(StretchesOf(forward.weights(), layer, passes, all, all));
}

// A map of the layer as the tensors of `pruned` have it.
Matrix RowsOf(const Forward& forward, const Stretch::Piece& piece,
              const std::vector<PrunedWeights>& pruned, LinearMap which) {
  StoredMap map = *ValueOrDie(forward.weights().Map(kLayer, which));
  Matrix rows(map.out, map.in);
  for (size_t i = 0; i < pruned.size(); ++i) {
    if (piece.tensors[i].what.stored != map.weight) continue;
    TensorInfo tensor = *map.weight;
    tensor.bytes = pruned[i].bytes;
    map.weight = &tensor;
    EXPECT_TRUE(ReadRows(map, 0, rows).ok());
    return rows;
  }
  ADD_FAILURE() << "no tensor of the piece has the map";
  return rows;
}

std::vector<float> Values(const Matrix& matrix) {
  return {matrix.data(), matrix.data() + matrix.size()};
}

Index ZerosOf(const Matrix& matrix) {
  return std::count(matrix.data(), matrix.data() + matrix.size(), 0.0f);
}

class PrunedTogether : public ::testing::TestWithParam<const char*> {};

// Rope, grouped queries, fused tensors, transposed ones, norms of queries and keys, softcap,
// windows, alibi, biases, clipped projections.
INSTANTIATE_TEST_SUITE_P(Families, PrunedTogether,
                         ::testing::Values("bloom", "falcon-40b-like", "gemma2", "gpt2", "llama",
                                           "olmo", "olmo2", "opt", "phi3", "qwen2", "qwen3"),
                         [](const auto& test) { return TestName(test.param); });

TEST_P(PrunedTogether, AreWhatTheSameMethodMakesOfTheLayersOwnProblem) {
  Bench bench(GetParam());
  const auto method = ValueOrDie(ParseMethod("joint:steps=12")),
             others = ValueOrDie(ParseMethod("magnitude"));
  const Sparsity half = Sparsity::Fraction(0.5);

  AttentionLayer layer = ValueOrDie(LoadAttentionLayer(bench.folder, kLayer));
  const Problem problem{.weights = std::move(layer.weights),
                        .attention = layer.attention,
                        .scale = layer.scale,
                        .calibration = bench.InputsOf(bench.calibration, bench.x),
                        .held_out = bench.InputsOf(bench.held_out, bench.y),
                        .sparsity = half};
  const PruneResult expected = ValueOrDie(method->Prune(problem));
  const Score score = ValueOrDie(Judge(problem, expected));

  LayerPruner pruner(*bench.forward, bench.pool);
  ASSERT_TRUE(pruner.Load(kLayer).ok());
  const std::vector<Stretch> stretches = Stretches(*bench.forward, kLayer, Passes::kByGroup);
  ASSERT_TRUE(pruner.Collect(stretches[0], bench.states()).ok());
  const Stretch::Piece piece = stretches[0].Pieces()[0];
  ASSERT_TRUE(piece.attention);
  CountingObserver observer;
  const PrunedAttention pruned =
      ValueOrDie(pruner.PruneAttention(piece, {*method, *others}, half, {}, observer));

  EXPECT_EQ(observer.steps(), expected.steps);
  EXPECT_EQ(Values(RowsOf(*bench.forward, piece, pruned.tensors, LinearMap::kQuery)),
            Values(expected.matrices[0].weights));
  EXPECT_EQ(Values(RowsOf(*bench.forward, piece, pruned.tensors, LinearMap::kKey)),
            Values(expected.matrices[1].weights));
  EXPECT_NEAR(pruned.calibration_error, score.calibration.relative_error, 1e-9);
  EXPECT_NEAR(*pruned.held_out_error, score.held_out->relative_error, 1e-9);
  for (const PrunedWeights& tensor : pruned.tensors) {
    EXPECT_GT(tensor.calibration_error, 0);
    EXPECT_LT(tensor.calibration_error, 1.5);
    EXPECT_EQ(tensor.steps, expected.steps);
  }
  const std::vector<LinearMap> maps = piece.maps();
  if (std::find(maps.begin(), maps.end(), LinearMap::kValue) == maps.end()) return;
  const Matrix v = RowsOf(*bench.forward, piece, pruned.tensors, LinearMap::kValue);
  EXPECT_EQ(ZerosOf(v), half.PrunedOf(v.size())) << "by the method for linear maps";
}

std::vector<std::vector<char>> BytesOf(const PrunedAttention& pruned) {
  std::vector<std::vector<char>> bytes;
  for (const PrunedWeights& tensor : pruned.tensors) bytes.push_back(tensor.bytes);
  return bytes;
}

PrunedAttention PruneLayer(Bench& bench, Passes passes, const LayerPlaces& place,
                           ProgressObserver& observer) {
  const auto method = ValueOrDie(ParseMethod("kfac")), others = ValueOrDie(ParseMethod("wanda"));
  LayerPruner pruner(*bench.forward, bench.pool, place);
  EXPECT_TRUE(pruner.Load(kLayer).ok());
  const std::vector<Stretch> stretches = Stretches(*bench.forward, kLayer, passes);
  EXPECT_TRUE(pruner.Collect(stretches[0], bench.states()).ok());
  return ValueOrDie(pruner.PruneAttention(stretches[0].Pieces()[0], {*method, *others},
                                          Sparsity::NOfM(2, 4), {}, observer));
}

TEST(PrunedTogetherTest, HaveTheSameBitsWhereverTheirTokensAndTheirAttentionAre) {
  Bench bench("llama");
  CountingObserver observer;
  const auto expected = BytesOf(PruneLayer(bench, Passes::kByGroup, {}, observer));
  ASSERT_EQ(expected.size(), 2u);
  EXPECT_EQ(BytesOf(PruneLayer(bench, Passes::kOnce, {}, observer)), expected);
  EXPECT_EQ(BytesOf(PruneLayer(bench, Passes::kByGroup, {DenseAttention::kRebuild, ""}, observer)),
            expected);
  const LayerPlaces in_a_file{DenseAttention::kRecompute, ::testing::TempDir()};
  EXPECT_EQ(BytesOf(PruneLayer(bench, Passes::kByGroup, in_a_file, observer)), expected);
}

// Where the inputs are those of the dense model, the target of any share is what the weights are,
// but for the rounding of the moments; elsewhere it is another, and the error is still that against
// the model's own weights.
TEST(PrunedTogetherTest, ArePrunedTowardsWhatTheyGiveInTheDenseModel) {
  Bench bench("llama", /*layer=*/0);
  const auto method = ValueOrDie(ParseMethod("kfac")), others = ValueOrDie(ParseMethod("wanda"));
  const std::vector<Stretch> stretches = Stretches(*bench.forward, 0, Passes::kByGroup);
  const auto prune = [&](double share, Matrix& dense) {
    LayerPruner pruner(*bench.forward, bench.pool);
    EXPECT_TRUE(pruner.Load(0, share).ok());
    LayerPruner::Tokens tokens = bench.states();
    tokens.dense = {bench.calibration.lengths, dense};
    EXPECT_TRUE(pruner.Collect(stretches[0], tokens).ok());
    CountingObserver observer;
    return ValueOrDie(pruner.PruneAttention(stretches[0].Pieces()[0], {*method, *others},
                                            Sparsity::Fraction(0.5), {}, observer));
  };
  Matrix same = Matrix::CopyFrom(bench.x), other = Matrix::CopyFrom(bench.x);
  for (float& entry : other.flat()) entry = 0.5f * entry + 0.2f;
  const PrunedAttention without = prune(0, same);
  EXPECT_NEAR(prune(0.5, same).calibration_error, without.calibration_error,
              0.01 * without.calibration_error);
  const PrunedAttention elsewhere = prune(0.5, other);
  EXPECT_NE(BytesOf(elsewhere), BytesOf(without));
  EXPECT_GT(elsewhere.calibration_error, without.calibration_error);
}

TEST(PrunedTogetherTest, StopAtTheStepThatIsTold) {
  Bench bench("llama");
  const auto method = ValueOrDie(ParseMethod("joint:steps=50")),
             others = ValueOrDie(ParseMethod("wanda"));
  LayerPruner pruner(*bench.forward, bench.pool);
  ASSERT_TRUE(pruner.Load(kLayer).ok());
  const std::vector<Stretch> stretches = Stretches(*bench.forward, kLayer, Passes::kByGroup);
  ASSERT_TRUE(pruner.Collect(stretches[0], bench.states()).ok());
  CountingObserver observer(/*stop_at=*/3);
  EXPECT_TRUE(absl::IsCancelled(pruner
                                    .PruneAttention(stretches[0].Pieces()[0], {*method, *others},
                                                    Sparsity::Fraction(0.5), {}, observer)
                                    .status()));
  EXPECT_EQ(observer.steps(), 3);
}

}  // namespace
}  // namespace attnprune
