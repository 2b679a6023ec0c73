#include "core/sequential/curvature.h"

#include <algorithm>
#include <array>
#include <numeric>
#include <utility>
#include <vector>

#include "absl/types/optional.h"
#include "core/base/status_macros.h"
#include "core/io/spilled_matrix.h"
#include "core/kernels/gram.h"
#include "core/model/head_backward.h"
#include "core/model/layer_backward.h"
#include "core/model/pass_estimate.h"
#include "core/tensor/copy_rows.h"

namespace attnprune {
namespace {

constexpr double kHeadProducts = 3;  // its logits twice, and the gradient

// By LinearMap; 0: the family has no such map.
std::array<Index, kLinearMaps> OutputsOf(const ModelOptions& model) {
  const Index q = model.heads * model.head_dim, kv = model.kv_heads * model.head_dim;
  const Index gate = model.mlp == MlpKind::kPlain ? 0 : model.ffn;
  return {q, kv, kv, model.hidden_size, gate, model.ffn, model.hidden_size};
}

// A group's inputs count once: with the map that every family has.
void AddSquares(LinearMap map, MatrixView input, LayerCurvature& curvature) {
  if (map == LinearMap::kKey || map == LinearMap::kValue || map == LinearMap::kGate) return;
  AddColumnSquares(input, curvature.squares[GroupOf(map)]);
}

// Of one draw of the labels.
uint64_t DrawSeed(uint64_t seed, int draw) {
  constexpr uint64_t kOddFraction =
      0x9e3779b97f4a7c15;  // of 2^64, the golden ratio's: small seeds do not meet
  return seed + kOddFraction * static_cast<uint64_t>(draw);
}

// The states of a model on their way forward and back.
class Pass {
 public:
  Pass(Forward& forward, ThreadPool& pool, const Tokens& rows, const CurvatureOptions& options,
       const PassListener& listener)
      : forward_(forward), pool_(pool), rows_(rows), options_(options), listener_(listener) {}

  absl::Status Run(const PassOptions& places, const CurvatureSink& sink);

 private:
  absl::Status MakeRoom(const PassOptions& places);
  absl::Status RunForward();
  absl::Status TakeGradients();
  absl::Status RunBack(Index layer, const CurvatureSink& sink);

  Index layers() const { return forward_.options().layer_count(); }
  double tokens() const { return static_cast<double>(rows_.total()); }
  MutableMatrixView Kept(Index layer) {
    return kept_->view().Rows(layer * rows_.total(), rows_.total());
  }
  MutableMatrixView Gradient(int draw) {
    return gradients_->view().Rows(draw * rows_.total(), rows_.total());
  }
  // passes: of a layer, that are done.
  bool Tell(double passes) const {
    const double all = static_cast<double>(layers()) * (1 + options_.draws * kBackwardPasses);
    return !listener_ || listener_(passes / all);
  }

  Forward& forward_;
  ThreadPool& pool_;
  const Tokens& rows_;
  const CurvatureOptions& options_;
  const PassListener& listener_;
  absl::optional<ScratchMatrix> kept_;       // the input of every layer, the last one's output
  absl::optional<ScratchMatrix> gradients_;  // of every draw
};

absl::Status Pass::MakeRoom(const PassOptions& places) {
  const ModelOptions& model = forward_.options();
  const Index kept_rows = rows_.total() * (layers() + 1), rows = rows_.total() * options_.draws;
  const bool spill =
      places.memory_budget > 0 && HiddenStatesBytes(model, kept_rows + rows) > places.memory_budget;
  const std::string folder = spill ? places.spill_folder : "";
  ATTNPRUNE_ASSIGN_OR_RETURN(ScratchMatrix kept,
                             ScratchMatrix::Create(kept_rows, model.hidden_size, folder));
  kept_.emplace(std::move(kept));
  ATTNPRUNE_ASSIGN_OR_RETURN(ScratchMatrix gradients,
                             ScratchMatrix::Create(rows, model.hidden_size, folder));
  gradients_.emplace(std::move(gradients));
  return absl::OkStatus();
}

absl::Status Pass::RunForward() {
  ATTNPRUNE_RETURN_IF_ERROR(forward_.Embed(rows_, Kept(0)));
  for (Index layer = 0; layer < layers(); ++layer) {
    const MutableMatrixView x = Kept(layer + 1);
    CopyRows(Kept(layer), x);
    LayerHooks hooks;
    hooks.goes_on = [&](Index done) {
      return Tell(static_cast<double>(layer) + static_cast<double>(done) / tokens());
    };
    ATTNPRUNE_RETURN_IF_ERROR(forward_.RunLayer(layer, rows_.lengths, x, hooks));
  }
  return absl::OkStatus();
}

absl::Status Pass::TakeGradients() {
  const double done = static_cast<double>(layers());
  for (int draw = 0; draw < options_.draws; ++draw) {
    ATTNPRUNE_RETURN_IF_ERROR(
        SampledLabelGradient(forward_, rows_.lengths, {.seed = DrawSeed(options_.seed, draw)},
                             Kept(layers()), Gradient(draw), [&](double) { return Tell(done); })
            .status());
  }
  return absl::OkStatus();
}

absl::Status Pass::RunBack(Index layer, const CurvatureSink& sink) {
  LayerWeights weights;
  ATTNPRUNE_RETURN_IF_ERROR(forward_.weights().LoadLayer(layer, pool_, weights));
  LayerCurvature curvature = NoCurvature(weights, options_.widest, options_.output);
  LayerBackward backward(forward_.options(), pool_);
  for (int draw = 0; draw < options_.draws; ++draw) {
    for (OutputCurvature::Block& block : curvature.output.blocks) {
      AddGram(Gradient(draw).Cols(block.first, block.moments.size()), pool_, block.moments);
    }
    BackwardHooks hooks;
    hooks.map_gradient = [&](LinearMap map, Index, MatrixView input, MatrixView gradient) {
      AddSquares(map, input, curvature);
      for (OutputCurvature::Block& block : curvature.maps[static_cast<size_t>(map)].blocks) {
        AddGram(gradient.Cols(block.first, block.moments.size()), pool_, block.moments);
      }
    };
    const double before =
        static_cast<double>(layers()) +
        kBackwardPasses * static_cast<double>((layers() - 1 - layer) * options_.draws + draw);
    hooks.goes_on = [&](Index done) {
      return Tell(before + kBackwardPasses * static_cast<double>(done) / tokens());
    };
    if (!backward.Run(layer, weights, rows_.lengths, Kept(layer), Gradient(draw), hooks)) {
      return absl::CancelledError("interrupted");
    }
  }
  return sink(layer, weights, curvature);
}

absl::Status Pass::Run(const PassOptions& places, const CurvatureSink& sink) {
  ATTNPRUNE_RETURN_IF_ERROR(forward_.CheckPredicts());
  ATTNPRUNE_RETURN_IF_ERROR(MakeRoom(places));
  ATTNPRUNE_RETURN_IF_ERROR(RunForward());
  ATTNPRUNE_RETURN_IF_ERROR(TakeGradients());
  for (Index layer = layers() - 1; layer >= 0; --layer) {
    ATTNPRUNE_RETURN_IF_ERROR(RunBack(layer, sink));
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status MeasureCurvature(Forward& forward, ThreadPool& pool, const Tokens& rows,
                              const CurvatureOptions& options, const PassOptions& places,
                              const PassListener& listener, const CurvatureSink& sink) {
  return Pass(forward, pool, rows, options, listener).Run(places, sink);
}

CurvatureEstimate EstimateCurvature(const ModelOptions& model, absl::Span<const Index> lengths,
                                    const CurvatureOptions& options) {
  const auto layers = static_cast<double>(model.layer_count());
  const double tokens = std::accumulate(lengths.begin(), lengths.end(), 0.0);
  const PassEstimate pass =
      EstimatePass(model, Compute::kFloat32, lengths, model.layer_count(), /*memory_budget=*/1);
  double entries = 0;  // of a layer's B
  for (const Index outputs : OutputsOf(model)) {
    for (const Index block : CurvatureBlocks(outputs, options.widest)) {
      entries += static_cast<double>(block * block);
    }
  }
  for (const Index block :
       CurvatureBlocks(options.output ? model.hidden_size : 0, options.widest)) {
    entries += static_cast<double>(block * block);
  }
  const double head =
      2 * tokens * static_cast<double>(model.hidden_size) * static_cast<double>(model.vocab);
  CurvatureEstimate estimate;
  estimate.operations =
      (pass.map_operations + pass.attention_operations) * (1 + options.draws * kBackwardPasses) +
      options.draws * (kHeadProducts * head + layers * tokens * entries);
  estimate.state_bytes = static_cast<double>(sizeof(float)) * tokens *
                         static_cast<double>(model.hidden_size) * (layers + 1 + options.draws);
  estimate.layer_bytes = static_cast<double>(sizeof(double)) * entries;
  estimate.stored_bytes = static_cast<double>(sizeof(float)) * entries * layers;
  return estimate;
}

Tokens SomeRows(const Tokens& tokens, Index rows) {
  const auto all = static_cast<Index>(tokens.lengths.size());
  if (rows >= all) return tokens;
  Tokens some;
  Index first = 0, taken = 0;
  for (Index i = 0; i < all; ++i) {
    const Index length = tokens.lengths[static_cast<size_t>(i)];
    if (i == taken * all / rows && taken < rows) {
      if (!tokens.ids.empty()) {
        const auto begin = tokens.ids.begin() + first;
        some.ids.insert(some.ids.end(), begin, begin + length);
      }
      some.lengths.push_back(length);
      ++taken;
    }
    first += length;
  }
  return some;
}

}  // namespace attnprune
