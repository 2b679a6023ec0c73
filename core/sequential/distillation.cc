#include "core/sequential/distillation.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <numeric>
#include <utility>

#include "core/base/status_macros.h"
#include "core/model/head_divergence.h"
#include "core/model/layer_parts.h"
#include "core/model/pass_estimate.h"
#include "core/model/token_draw.h"
#include "core/tensor/copy_rows.h"

namespace attnprune {
namespace {

constexpr int kLooks = 12;  // at the validation rows, beside the one at the start

Tokens Joined(Tokens first, const Tokens& second) {
  first.ids.insert(first.ids.end(), second.ids.begin(), second.ids.end());
  first.lengths.insert(first.lengths.end(), second.lengths.begin(), second.lengths.end());
  return first;
}

// Whether a look follows step `step` of `steps`.
bool LooksAfter(int step, int steps) { return step * kLooks / steps > (step - 1) * kLooks / steps; }

double CosineRate(double rate, int step, int steps) {
  return rate * (1 + std::cos(std::numbers::pi * step / steps)) / 2;
}

// The order of the rows in pass `epoch` over them.
std::vector<Index> ShuffledRows(uint64_t seed, Index epoch, Index rows) {
  std::vector<std::pair<double, Index>> drawn;
  drawn.reserve(static_cast<size_t>(rows));
  for (Index i = 0; i < rows; ++i) drawn.emplace_back(UniformOfDraw(seed, epoch, i), i);
  std::sort(drawn.begin(), drawn.end());
  std::vector<Index> order;
  order.reserve(drawn.size());
  for (const auto& [key, row] : drawn) order.push_back(row);
  return order;
}

}  // namespace

Distillation::Distillation(Forward& forward, ThreadPool& pool, const Tokens& training,
                           const Tokens& validation, const DistillationOptions& options)
    : forward_(forward),
      pool_(pool),
      tokens_(Joined(training, validation)),
      training_(std::ssize(training.lengths)),
      validation_(std::ssize(validation.lengths)),
      options_(options),
      layer_forward_(forward.options(), pool),
      layer_backward_(forward.options(), pool),
      gradients_(pool) {
  begins_.reserve(tokens_.lengths.size());
  Index first = 0;
  for (const Index length : tokens_.lengths) {
    begins_.push_back(first);
    first += length;
  }
}

absl::Status Distillation::Add(LayerWeights weights, std::vector<LinearMap> maps) {
  LayerWeights dense;
  ATTNPRUNE_RETURN_IF_ERROR(forward_.weights().LoadLayer(std::ssize(layers_), pool_, dense));
  layers_.emplace_back(std::move(weights), std::move(maps), dense);
  return absl::OkStatus();
}

std::vector<absl::Span<float>> Distillation::Values(Index layer) {
  return layers_[static_cast<size_t>(layer)].Values();
}

// --- Progress ---

double Distillation::AllPasses() const {
  const auto all = static_cast<double>(tokens_.total());
  const auto split = static_cast<size_t>(training_);
  const double training = split < begins_.size() ? static_cast<double>(begins_[split]) : all;
  const Index rows = std::min(options_.rows, training_);
  const double share = static_cast<double>(rows) / static_cast<double>(training_);
  return all + options_.steps * (1 + kBackwardPasses) * share * training +
         (kLooks + 1) * (all - training);
}

bool Distillation::Tell(double token_passes) {
  done_ += token_passes;
  return !*listener_ || (*listener_)(std::min(done_ / AllPasses(), 1.0));
}

// --- Rows ---

Distillation::Batch Distillation::RowsAt(absl::Span<const Index> rows) const {
  Batch batch;
  for (const Index row : rows) {
    const Index first = begins_[static_cast<size_t>(row)];
    const Index length = tokens_.lengths[static_cast<size_t>(row)];
    const auto begin = tokens_.ids.begin() + first;
    batch.tokens.ids.insert(batch.tokens.ids.end(), begin, begin + length);
    batch.tokens.lengths.push_back(length);
    batch.first.push_back(first);
  }
  return batch;
}

Distillation::Batch Distillation::BatchOf(int step) const {
  const Index count = std::min(options_.rows, training_);
  std::vector<Index> rows, order;
  rows.reserve(static_cast<size_t>(count));
  Index epoch = -1;
  for (Index place = step * count; place < (step + 1) * count; ++place) {
    if (place / training_ != epoch) {
      epoch = place / training_;
      order = ShuffledRows(options_.seed, epoch, training_);
    }
    rows.push_back(order[static_cast<size_t>(place % training_)]);
  }
  return RowsAt(rows);
}

MatrixView Distillation::DenseRows(const Batch& batch) {
  const MutableMatrixView rows =
      Room(dense_rows_, batch.tokens.total(), forward_.options().hidden_size);
  Index to = 0;
  for (size_t i = 0; i < batch.first.size(); ++i) {
    const Index length = batch.tokens.lengths[i];
    CopyRows(dense_->view().Rows(batch.first[i], length), rows.Rows(to, length));
    to += length;
  }
  return rows;
}

// --- Passes ---

absl::Status Distillation::TakeDenseStates(const PassOptions& places) {
  ATTNPRUNE_ASSIGN_OR_RETURN(ScratchMatrix states,
                             MakeHiddenStates(forward_.options(), tokens_, places));
  dense_.emplace(std::move(states));
  ATTNPRUNE_RETURN_IF_ERROR(forward_.Embed(tokens_, dense_->view()));
  for (Index layer = 0; layer < layers(); ++layer) {
    Index before = 0;
    LayerHooks hooks;
    hooks.goes_on = [&](Index done) {
      return Tell(static_cast<double>(done - std::exchange(before, done)) /
                  static_cast<double>(layers()));
    };
    ATTNPRUNE_RETURN_IF_ERROR(forward_.RunLayer(layer, tokens_.lengths, dense_->view(), hooks));
  }
  return absl::OkStatus();
}

// The batch through the pruned layers: states_ has the last one's output; keep: behind the input of
// each layer.
absl::Status Distillation::RunForward(const Batch& batch, bool keep) {
  const Index tokens = batch.tokens.total();
  const MutableMatrixView states =
      Room(states_, tokens * (keep ? layers() + 1 : 1), forward_.options().hidden_size);
  ATTNPRUNE_RETURN_IF_ERROR(forward_.Embed(batch.tokens, states.Rows(0, tokens)));
  LayerHooks hooks;
  hooks.goes_on = [&](Index) { return Tell(0); };
  for (Index layer = 0; layer < layers(); ++layer) {
    MutableMatrixView x = states.Rows(0, tokens);
    if (keep) {
      x = states.Rows((layer + 1) * tokens, tokens);
      CopyRows(states.Rows(layer * tokens, tokens), x);
    }
    if (!layer_forward_.Run(layer, this->layer(layer), batch.tokens.lengths, x, hooks)) {
      return absl::CancelledError("interrupted");
    }
  }
  return absl::OkStatus();
}

absl::Status Distillation::StepLayers(const Batch& batch, MutableMatrixView gradient) {
  const Index tokens = batch.tokens.total();
  const double rate = CosineRate(options_.rate, point_.steps, options_.steps);
  for (Index i = layers() - 1; i >= 0; --i) {
    TrainedLayer& layer = layers_[static_cast<size_t>(i)];
    gradients_.Begin(layer.weights(), layer.maps());
    BackwardHooks hooks;
    hooks.map_gradient = [&](LinearMap map, Index, MatrixView input, MatrixView of_output) {
      gradients_.Add(map, input, of_output);
    };
    hooks.goes_on = [&](Index) { return Tell(0); };
    const MatrixView x = MatrixView(states_).Rows(i * tokens, tokens);
    if (!layer_backward_.Run(i, layer.weights(), batch.tokens.lengths, x, gradient, hooks)) {
      return absl::CancelledError("interrupted");
    }
    layer.Step(pool_, rate, point_.steps + 1, gradients_);
  }
  return absl::OkStatus();
}

// Returns the mean divergence before it.
absl::StatusOr<double> Distillation::Step() {
  const Batch batch = BatchOf(point_.steps);
  const Index tokens = batch.tokens.total();
  ATTNPRUNE_RETURN_IF_ERROR(RunForward(batch, /*keep=*/true));
  const MutableMatrixView gradient = Room(gradient_, tokens, forward_.options().hidden_size);
  const MatrixView top = MatrixView(states_).Rows(layers() * tokens, tokens);
  ATTNPRUNE_ASSIGN_OR_RETURN(
      const double sum,
      LogitDivergence(forward_, DenseRows(batch), top, gradient, [&](double) { return Tell(0); }));
  const double loss = sum / static_cast<double>(tokens);
  if (!std::isfinite(loss)) return loss;
  ATTNPRUNE_RETURN_IF_ERROR(StepLayers(batch, gradient));
  if (!Tell((1 + kBackwardPasses) * static_cast<double>(tokens)))
    return absl::CancelledError("interrupted");
  return loss;
}

// At the validation rows.
absl::Status Distillation::Look() {
  double sum = 0;
  Index tokens = 0;
  for (Index first = 0; first < validation_; first += options_.rows) {
    std::vector<Index> rows(static_cast<size_t>(std::min(options_.rows, validation_ - first)));
    std::iota(rows.begin(), rows.end(), training_ + first);
    const Batch batch = RowsAt(rows);
    ATTNPRUNE_RETURN_IF_ERROR(RunForward(batch, /*keep=*/false));
    const MatrixView top = MatrixView(states_).Rows(0, batch.tokens.total());
    ATTNPRUNE_ASSIGN_OR_RETURN(const double of_rows,
                               LogitDivergence(forward_, DenseRows(batch), top, absl::nullopt,
                                               [&](double) { return Tell(0); }));
    sum += of_rows;
    tokens += batch.tokens.total();
    if (!Tell(static_cast<double>(batch.tokens.total()))) {
      return absl::CancelledError("interrupted");
    }
  }
  const double divergence = sum / static_cast<double>(tokens);
  if (!point_.start.has_value()) {
    point_.start = point_.best = divergence;
  } else if (divergence < *point_.best) {
    point_.best = divergence;
    point_.best_step = point_.steps;
    for (TrainedLayer& layer : layers_) layer.KeepAsBest();
  }
  return absl::OkStatus();
}

absl::Status Distillation::Run(const PassOptions& places, const PassListener& listener,
                               const DistillationObserver& observer) {
  listener_ = &listener;
  const double per_step = (AllPasses() - static_cast<double>(tokens_.total())) / options_.steps;
  done_ = per_step * point_.steps;
  ATTNPRUNE_RETURN_IF_ERROR(TakeDenseStates(places));
  if (!point_.start.has_value()) ATTNPRUNE_RETURN_IF_ERROR(Look());
  while (point_.steps < options_.steps) {
    ATTNPRUNE_ASSIGN_OR_RETURN(const double loss, Step());
    if (!std::isfinite(loss)) break;
    ++point_.steps;
    if (LooksAfter(point_.steps, options_.steps)) ATTNPRUNE_RETURN_IF_ERROR(Look());
    if (observer && !observer(point_, loss)) return absl::CancelledError("interrupted");
  }
  for (TrainedLayer& layer : layers_) layer.TakeBest();
  return absl::OkStatus();
}

DistillationEstimate EstimateDistillation(const ModelOptions& model, double entries,
                                          absl::Span<const Index> lengths,
                                          const DistillationOptions& options) {
  constexpr double kFloat = sizeof(float);
  constexpr double kCopies = 4;               // weights, two moments, the best weights
  constexpr double kHead = 4, kBackHead = 1;  // products with the head
  const auto layers = static_cast<double>(model.layer_count());
  const auto hidden = static_cast<double>(model.hidden_size);
  const double tokens = std::accumulate(lengths.begin(), lengths.end(), 0.0);
  const PassEstimate pass =
      EstimatePass(model, Compute::kFloat32, lengths, model.layer_count(), /*memory_budget=*/1);
  const double forward = pass.map_operations + pass.attention_operations;
  const auto rows = static_cast<double>(lengths.size());
  const double share = std::min(static_cast<double>(options.rows) / rows, 1.0);
  const double looks = (kLooks + 1) * kDistillationValidation;
  const double head = 2 * tokens * hidden * static_cast<double>(model.vocab);
  DistillationEstimate estimate;
  estimate.operations = forward * (1 + options.steps * share * (1 + kBackwardPasses) + looks) +
                        head * (options.steps * share * (kHead + kBackHead) + looks * kHead);
  const double batch = tokens * share;
  estimate.values_bytes = kCopies * kFloat * entries;
  estimate.bytes = estimate.values_bytes + kFloat * entries / layers +  // a layer's gradients
                   2 * pass.bytes + kFloat * batch * hidden * (layers + 3);
  estimate.state_bytes = kFloat * tokens * hidden;
  return estimate;
}

}  // namespace attnprune
