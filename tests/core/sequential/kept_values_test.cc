// Passes over a layer that go on where the ones before them ended, against passes that begin at
// the layer's input.
#include "core/sequential/kept_values.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "core/methods/registry.h"
#include "core/sequential/layer_pruner.h"
#include "tests/core/model/golden_models.h"
#include "tests/support/value_or_die.h"

namespace attnprune {
namespace {

using Side = LayerPruner::Side;
using Until = LayerHooks::Until;
using testing::GoldenModel;
using testing::TestName;
using testing::ValueOrDie;

bool Every(Index, const TensorMaps&) { return true; }

class PatientObserver final : public ProgressObserver {
 public:
  Verdict OnStep(const StepStats&, const Resumable&) override { return Verdict::kContinue; }
};

// A model's second layer, and what is before it for some rows.
struct SecondLayer {
  explicit SecondLayer(const std::string& name)
      : forward(ValueOrDie(Forward::Open(GoldenModel(name), pool))) {
    for (Index i = 0; i < 24; ++i) tokens.ids.push_back((3 + 7 * i + i * i) % 40);
  }

  Matrix Before() {
    Matrix x(tokens.total(), forward->options().hidden_size);
    EXPECT_TRUE(forward->Embed(tokens, x).ok());
    EXPECT_TRUE(forward->RunLayer(0, tokens.lengths, x).ok());
    return x;
  }
  TokenStates Of(Matrix& x) const { return {tokens.lengths, x}; }

  ThreadPool pool{2};
  std::unique_ptr<Forward> forward;
  Tokens tokens{.ids = {}, .lengths = {9, 6, 9}};
};

// Everything that comes of pruning it, as floats and bytes.
struct Outcome {
  std::vector<std::vector<char>> tensors;
  std::vector<double> errors;
  std::vector<std::vector<float>> states;

  bool operator==(const Outcome&) const = default;
};

// as_attention: q and k by kfac.
Outcome PruneBy(const std::string& model, const LayerPlaces& places, double dense_share,
                bool as_attention) {
  SecondLayer layer(model);
  const auto alps = ValueOrDie(ParseMethod("alps:steps=5")), kfac = ValueOrDie(ParseMethod("kfac"));
  const Sparsity half = Sparsity::Fraction(0.5);
  Matrix x = layer.Before(), dense = layer.Before(), held_out = layer.Before();
  for (float& entry : x.flat()) entry *= 1.25f;  // as if pruned before
  const LayerPruner::Tokens tokens{layer.Of(x), dense_share > 0 ? layer.Of(dense) : TokenStates{},
                                   layer.Of(held_out)};
  LayerPruner pruner(*layer.forward, layer.pool, places);
  EXPECT_TRUE(pruner.Load(1, dense_share).ok());
  PatientObserver observer;
  Outcome outcome;
  const auto add = [&](const PrunedWeights& pruned) {
    outcome.tensors.push_back(pruned.bytes);
    outcome.errors.push_back(pruned.calibration_error);
    outcome.errors.push_back(*pruned.held_out_error);
  };
  for (const Stretch& stretch :
       ValueOrDie(StretchesOf(layer.forward->weights(), 1, Passes::kByGroup, Every,
                              as_attention ? Chosen(Every) : nullptr))) {
    EXPECT_TRUE(pruner.Collect(stretch, tokens).ok());
    for (const Stretch::Piece& piece : stretch.Pieces()) {
      if (!piece.attention) {
        add(ValueOrDie(pruner.Prune(piece.tensors[0], *alps, half, {}, observer)));
        continue;
      }
      const PrunedAttention pruned =
          ValueOrDie(pruner.PruneAttention(piece, {*kfac, *alps}, half, {}, observer));
      for (const PrunedWeights& tensor : pruned.tensors) add(tensor);
    }
  }
  const auto advance = [&](Side side, Matrix& states) {
    EXPECT_TRUE(pruner.Advance(side, layer.Of(states)).ok());
    outcome.states.emplace_back(states.flat().begin(), states.flat().end());
  };
  advance(Side::kCalibration, x);
  advance(Side::kHeldOut, held_out);
  if (dense_share > 0) advance(Side::kDense, dense);
  return outcome;
}

class GoesOn : public ::testing::TestWithParam<const char*> {};

// Attention and MLP side by side with a norm each or one for both, norms behind them, fused and
// transposed tensors, wider heads than the model, norms of queries and keys, alibi.
INSTANTIATE_TEST_SUITE_P(Families, GoesOn,
                         ::testing::Values("bloom", "cohere", "falcon-40b-like", "falcon-7b-like",
                                           "gemma2", "gpt-neox", "gpt2", "gptj", "granite", "llama",
                                           "llama-bias-headdim-tied", "olmo2", "opt-350m-like",
                                           "phi3", "qwen3", "stablelm-parallel-qknorm"),
                         [](const auto& test) { return TestName(test.param); });

TEST_P(GoesOn, WithTheBitsOfWholePasses) {
  const LayerPlaces anew{.keeps_values = false};
  const LayerPlaces in_a_file{.values_folder = ::testing::TempDir()};
  for (const double share : {0.0, 0.5}) {
    const Outcome expected = PruneBy(GetParam(), anew, share, false);
    EXPECT_EQ(PruneBy(GetParam(), {}, share, false), expected) << share;
    EXPECT_EQ(PruneBy(GetParam(), in_a_file, share, false), expected) << share;
  }
}

TEST(GoesOnTest, BehindQueriesAndKeysThatWerePrunedTogether) {
  for (const double share : {0.0, 0.5}) {
    EXPECT_EQ(PruneBy("llama", {}, share, true),
              PruneBy("llama", {.keeps_values = false}, share, true))
        << share;
  }
}

// The layer's input is exchanged after attention was passed, which a layer would notice that begins
// there.
TEST(GoesOnTest, WithoutTheAttentionOnceMore) {
  SecondLayer layer("llama");
  const auto stretches =
      ValueOrDie(StretchesOf(layer.forward->weights(), 1, Passes::kByGroup, Every));
  const auto moments_after_exchange = [&](bool keeps_values) {
    Matrix x = layer.Before();
    LayerPruner pruner(*layer.forward, layer.pool, {.keeps_values = keeps_values});
    EXPECT_TRUE(pruner.Load(1).ok());
    EXPECT_TRUE(pruner.Collect(stretches[1], {layer.Of(x), {}, {}}).ok());
    std::reverse(x.flat().begin(), x.flat().end());
    EXPECT_TRUE(pruner.Collect(stretches[2], {layer.Of(x), {}, {}}).ok());
    const absl::Span<const double> flat = pruner.Moments()[0]->flat();
    return std::vector<double>(flat.begin(), flat.end());
  };
  EXPECT_NE(moments_after_exchange(true), moments_after_exchange(false));
}

class KeptValuesTest : public ::testing::Test {
 protected:
  // Runs the layer from what is kept; the hooks that saw it, as letters.
  std::string Pass(Until until, bool keep) {
    std::string seen;
    LayerHooks hooks;
    const auto see = [&seen](char what) {
      return [&seen, what](Index, MatrixView) { seen += what; };
    };
    hooks.attention_input = see('q');
    hooks.output_input = see('o');
    hooks.mlp_input = see('g');
    hooks.down_input = see('d');
    hooks.until = until;
    Matrix x = layer_.Before();
    EXPECT_TRUE(kept_.BeginPass(until, x.rows(), keep).ok());
    kept_.Attach(0, x.rows(), hooks);
    EXPECT_TRUE(layer_.forward->RunLayer(1, layer_.tokens.lengths, x, hooks).ok());
    return seen;
  }
  std::string WholePass(Until until, bool keep = true) {
    const std::string seen = Pass(until, keep);
    kept_.EndPass();
    return seen;
  }

  SecondLayer layer_{"llama"};
  KeptValues kept_{layer_.forward->options(), ""};
};

TEST_F(KeptValuesTest, AreThoseAtTheLastPointThatAPassCameBy) {
  EXPECT_EQ(WholePass(Until::kAttentionInput), "q");
  EXPECT_EQ(kept_.at(), LayerPoint::kInput);
  EXPECT_EQ(WholePass(Until::kOutputInput), "qo");
  EXPECT_EQ(kept_.at(), LayerPoint::kMixed);
  EXPECT_EQ(WholePass(Until::kOutputInput), "o") << "once more";
  EXPECT_EQ(WholePass(Until::kMlpInput), "og");
  EXPECT_EQ(kept_.at(), LayerPoint::kAttended);
  EXPECT_EQ(WholePass(Until::kDownInput), "gd");
  EXPECT_EQ(WholePass(Until::kEnd), "gd");
  EXPECT_EQ(WholePass(Until::kOutputInput), "qo") << "which lies before what is kept";
  EXPECT_EQ(kept_.at(), LayerPoint::kMixed);
}

TEST_F(KeptValuesTest, AreOnlyReadByAPassThatKeepsNone) {
  EXPECT_EQ(WholePass(Until::kOutputInput), "qo");
  EXPECT_EQ(WholePass(Until::kDownInput, /*keep=*/false), "ogd");
  EXPECT_EQ(kept_.at(), LayerPoint::kMixed);
}

TEST_F(KeptValuesTest, AreNoneBehindAPassThatWasInterrupted) {
  EXPECT_EQ(WholePass(Until::kOutputInput), "qo");
  EXPECT_EQ(Pass(Until::kMlpInput, /*keep=*/true), "og");
  EXPECT_EQ(kept_.at(), LayerPoint::kInput);
}

TEST_F(KeptValuesTest, AreForgottenBehindAMapThatChanges) {
  const size_t q = GroupOf(LinearMap::kQuery), o = GroupOf(LinearMap::kOutput),
               up = GroupOf(LinearMap::kUp);
  WholePass(Until::kOutputInput);
  kept_.Change(o);
  EXPECT_EQ(kept_.at(), LayerPoint::kMixed);
  kept_.Change(q);
  EXPECT_EQ(kept_.at(), LayerPoint::kInput);
  WholePass(Until::kMlpInput);
  kept_.Change(up);
  EXPECT_EQ(kept_.at(), LayerPoint::kAttended);
  kept_.Change(o);
  EXPECT_EQ(kept_.at(), LayerPoint::kInput);
}

}  // namespace
}  // namespace attnprune
