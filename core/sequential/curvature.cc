#include "core/sequential/curvature.h"

#include <algorithm>
#include <array>
#include <numeric>
#include <utility>
#include <vector>

#include "core/base/status_macros.h"
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

}  // namespace

absl::StatusOr<std::unique_ptr<CurvaturePass>> CurvaturePass::Create(
    Forward& forward, ThreadPool& pool, const Tokens& rows, const CurvatureOptions& options,
    const PassOptions& places) {
  ATTNPRUNE_RETURN_IF_ERROR(forward.CheckPredicts());
  std::unique_ptr<CurvaturePass> pass(new CurvaturePass(forward, pool, rows, options));
  ATTNPRUNE_RETURN_IF_ERROR(pass->MakeRoom(places));
  return pass;
}

MutableMatrixView CurvaturePass::Input(Index layer) {
  return kept_->view().Rows(layer * rows_.total(), rows_.total());
}

// passes: through a layer, that are done.
double CurvaturePass::ShareOf(double passes) const {
  return passes / (static_cast<double>(layers()) * (1 + options_.draws * kBackwardPasses));
}

double CurvaturePass::share() const {
  const Index back = point_.back.has_value() ? layers() - *point_.back : 0;
  return ShareOf(static_cast<double>(point_.forward) +
                 kBackwardPasses * static_cast<double>(back * options_.draws));
}

absl::Status CurvaturePass::MakeRoom(const PassOptions& places) {
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

absl::Status CurvaturePass::RunForward(Index layer) {
  const MutableMatrixView x = Input(layer + 1);
  CopyRows(Input(layer), x);
  LayerHooks hooks;
  hooks.goes_on = [&](Index done) {
    return Tell(static_cast<double>(layer) + static_cast<double>(done) / tokens());
  };
  return forward_.RunLayer(layer, rows_.lengths, x, hooks);
}

absl::Status CurvaturePass::TakeGradients() {
  const double done = static_cast<double>(layers());
  for (int draw = 0; draw < options_.draws; ++draw) {
    ATTNPRUNE_RETURN_IF_ERROR(
        SampledLabelGradient(forward_, rows_.lengths, {.seed = DrawSeed(options_.seed, draw)},
                             Input(layers()), Gradient(draw), [&](double) { return Tell(done); })
            .status());
  }
  return absl::OkStatus();
}

absl::Status CurvaturePass::RunBack(Index layer, const CurvatureSink& sink) {
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
    if (!backward.Run(layer, weights, rows_.lengths, Input(layer), Gradient(draw), hooks)) {
      return absl::CancelledError("interrupted");
    }
  }
  return sink(layer, weights, curvature);
}

absl::Status CurvaturePass::Run(const PassListener& listener, const CurvatureSink& sink,
                                const std::function<void()>& at_point) {
  listener_ = listener;
  ATTNPRUNE_RETURN_IF_ERROR(forward_.Embed(rows_, Input(0)));
  while (point_.forward < layers()) {
    ATTNPRUNE_RETURN_IF_ERROR(RunForward(point_.forward));
    ++point_.forward;
    if (at_point) at_point();
  }
  if (!point_.back.has_value()) {
    ATTNPRUNE_RETURN_IF_ERROR(TakeGradients());
    point_.back = layers();
  }
  while (*point_.back > 0) {
    ATTNPRUNE_RETURN_IF_ERROR(RunBack(*point_.back - 1, sink));
    --*point_.back;
    if (at_point) at_point();
  }
  return absl::OkStatus();
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
