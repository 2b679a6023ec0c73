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
#include "core/model/vocabulary_head.h"
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

// first: where a sequence begins.
absl::Span<const Index> LengthsFrom(absl::Span<const Index> lengths, Index first) {
  return lengths.subspan(static_cast<size_t>(SequencesBefore(lengths, first)));
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

double CurvaturePass::share() const {
  const double rows =
      static_cast<double>(point_.forward) + kBackwardPasses * static_cast<double>(point_.back);
  return rows / (static_cast<double>(layers() * tokens()) * (1 + options_.draws * kBackwardPasses));
}

Index CurvaturePass::layers_through() const { return point_.back / all_gradients(); }

Index CurvaturePass::kept_rows() const {
  if (point_.gradients < all_gradients()) return point_.forward;
  return std::max<Index>(layers() - layers_through() - 1, 0) * tokens();
}

Index CurvaturePass::gradient_rows() const {
  return layers_through() == layers() ? 0 : point_.gradients;
}

std::vector<absl::Span<double>> CurvaturePass::Sums() {
  if (point_.back % all_gradients() == 0) return {};
  return curvature_.Sums();
}

absl::Status CurvaturePass::SetPoint(const CurvaturePoint& point) {
  const Index forward = layers() * tokens(), back = layers() * all_gradients();
  const auto within = [](Index rows, Index all) { return rows >= 0 && rows <= all; };
  const bool all_within = within(point.forward, forward) &&
                          within(point.gradients, all_gradients()) && within(point.back, back);
  const bool in_order = (point.gradients == 0 || point.forward == forward) &&
                        (point.back == 0 || point.gradients == all_gradients());
  const auto at_sequence = [this](Index rows) {
    return SequencesBefore(rows_.lengths, rows % tokens()) >= 0;
  };
  if (!all_within || !in_order || !at_sequence(point.forward) || !at_sequence(point.back) ||
      point.gradients % tokens() % VocabularyHead::kGroup != 0) {
    return absl::InvalidArgumentError("not a point of this pass");
  }
  point_ = point;
  open_.reset();
  if (point.back % all_gradients() == 0) return absl::OkStatus();
  return OpenLayer(layers() - 1 - layers_through());
}

absl::Status CurvaturePass::OpenLayer(Index layer) {
  ATTNPRUNE_RETURN_IF_ERROR(forward_.weights().LoadLayer(layer, pool_, weights_));
  curvature_ = NoCurvature(weights_, options_.widest, options_.output);
  open_ = layer;
  return absl::OkStatus();
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

// From the row that it is at.
absl::Status CurvaturePass::RunForward(Index layer) {
  const Index first = point_.forward - layer * tokens(), rows = tokens() - first;
  const MutableMatrixView x = Input(layer + 1).Rows(first, rows);
  CopyRows(Input(layer).Rows(first, rows), x);
  LayerHooks hooks;
  hooks.goes_on = [&](Index done) {
    point_.forward = layer * tokens() + first + done;
    return Reach();
  };
  return forward_.RunLayer(layer, LengthsFrom(rows_.lengths, first), x, hooks);
}

absl::Status CurvaturePass::TakeGradients(int draw) {
  const LabelDraws draws = {.seed = DrawSeed(options_.seed, draw),
                            .done = point_.gradients - draw * tokens(),
                            .group_done = [&](Index rows) {
                              point_.gradients = draw * tokens() + rows;
                              if (at_point_) at_point_();
                            }};
  const auto goes_on = [this](double) { return !listener_ || listener_(share()); };
  return SampledLabelGradient(forward_, rows_.lengths, draws, Input(layers()), Gradient(draw),
                              goes_on)
      .status();
}

absl::Status CurvaturePass::RunBack(Index layer, int draw, Index first) {
  if (first == 0) {
    for (OutputCurvature::Block& block : curvature_.output.blocks) {
      AddGram(Gradient(draw).Cols(block.first, block.moments.size()), pool_, block.moments);
    }
  }
  BackwardHooks hooks;
  hooks.map_gradient = [&](LinearMap map, Index, MatrixView input, MatrixView gradient) {
    AddSquares(map, input, curvature_);
    for (OutputCurvature::Block& block : curvature_.maps[static_cast<size_t>(map)].blocks) {
      AddGram(gradient.Cols(block.first, block.moments.size()), pool_, block.moments);
    }
  };
  const Index before = layers_through() * all_gradients() + draw * tokens() + first;
  hooks.goes_on = [&](Index done) {
    const bool last = first + done == tokens() && draw + 1 == options_.draws;
    if (last) return true;  // the point is reached once the curvature has been given away
    point_.back = before + done;
    return Reach();
  };
  const Index rows = tokens() - first;
  LayerBackward backward(forward_.options(), pool_);
  const bool done =
      backward.Run(layer, weights_, LengthsFrom(rows_.lengths, first),
                   Input(layer).Rows(first, rows), Gradient(draw).Rows(first, rows), hooks);
  return done ? absl::OkStatus() : absl::CancelledError("interrupted");
}

absl::Status CurvaturePass::RunBack(Index layer, const CurvatureSink& sink) {
  const Index through = point_.back % all_gradients();
  if (open_ != layer) ATTNPRUNE_RETURN_IF_ERROR(OpenLayer(layer));
  const auto begun = static_cast<int>(through / tokens());
  for (int draw = begun; draw < options_.draws; ++draw) {
    ATTNPRUNE_RETURN_IF_ERROR(RunBack(layer, draw, draw == begun ? through % tokens() : 0));
  }
  ATTNPRUNE_RETURN_IF_ERROR(sink(layer, weights_, curvature_));
  point_.back = (layers() - layer) * all_gradients();
  open_.reset();
  return Reach() ? absl::OkStatus() : absl::CancelledError("interrupted");
}

absl::Status CurvaturePass::Run(const PassListener& listener, const CurvatureSink& sink,
                                const std::function<void()>& at_point) {
  listener_ = listener;
  at_point_ = at_point;
  ATTNPRUNE_RETURN_IF_ERROR(forward_.Embed(rows_, Input(0)));
  while (point_.forward < layers() * tokens()) {
    ATTNPRUNE_RETURN_IF_ERROR(RunForward(point_.forward / tokens()));
  }
  while (point_.gradients < all_gradients()) {
    ATTNPRUNE_RETURN_IF_ERROR(TakeGradients(static_cast<int>(point_.gradients / tokens())));
  }
  while (layers_through() < layers()) {
    ATTNPRUNE_RETURN_IF_ERROR(RunBack(layers() - 1 - layers_through(), sink));
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
