#include "core/sequential/distillation.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

#include "core/base/status_macros.h"
#include "core/model/head_divergence.h"
#include "core/model/layer_parts.h"
#include "core/model/pass_estimate.h"
#include "core/tensor/copy_rows.h"

namespace attnprune {
namespace {

Tokens TokensAt(const Tokens& tokens, const RowBatch& rows) {
  Tokens some{{}, rows.lengths};
  some.ids.reserve(static_cast<size_t>(rows.tokens()));
  for (size_t i = 0; i < rows.first.size(); ++i) {
    const auto begin = tokens.ids.begin() + rows.first[i];
    some.ids.insert(some.ids.end(), begin, begin + rows.lengths[i]);
  }
  return some;
}

}  // namespace

Distillation::Distillation(Forward& forward, ThreadPool& pool, const Tokens& rows,
                           const std::vector<bool>& decides, const TrainingOptions& options)
    : Training(rows.lengths, decides, options),
      forward_(forward),
      pool_(pool),
      tokens_(rows),
      layer_forward_(forward.options(), pool),
      layer_backward_(forward.options(), pool),
      gradients_(pool) {}

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

double Distillation::StepPasses() const {
  const Index rows = std::min(options().rows, training_rows());
  const double share = static_cast<double>(rows) / static_cast<double>(training_rows());
  return (1 + kBackwardPasses) * share * training_tokens() +
         (kTrainingLooks + 1) * validation_tokens() / options().steps;
}

bool Distillation::Tell(double token_passes) {
  done_ += token_passes;
  const double all = static_cast<double>(tokens_.total()) + options().steps * StepPasses();
  return !*listener_ || (*listener_)(std::min(done_ / all, 1.0));
}

MatrixView Distillation::DenseRows(const RowBatch& rows) {
  const MutableMatrixView dense = Room(dense_rows_, rows.tokens(), forward_.options().hidden_size);
  CopyRowsOf(rows, dense_->view(), dense);
  return dense;
}

// --- Passes ---

absl::Status Distillation::TakeDenseStates(const PassOptions& places) {
  ATTNPRUNE_ASSIGN_OR_RETURN(ScratchMatrix states,
                             MakeHiddenStates(forward_.options(), tokens_.total(), places));
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
absl::Status Distillation::RunForward(const RowBatch& rows, bool keep) {
  const Index tokens = rows.tokens();
  const MutableMatrixView states =
      Room(states_, tokens * (keep ? layers() + 1 : 1), forward_.options().hidden_size);
  ATTNPRUNE_RETURN_IF_ERROR(forward_.Embed(TokensAt(tokens_, rows), states.Rows(0, tokens)));
  LayerHooks hooks;
  hooks.goes_on = [&](Index) { return Tell(0); };
  for (Index layer = 0; layer < layers(); ++layer) {
    MutableMatrixView x = states.Rows(0, tokens);
    if (keep) {
      x = states.Rows((layer + 1) * tokens, tokens);
      CopyRows(states.Rows(layer * tokens, tokens), x);
    }
    if (!layer_forward_.Run(layer, this->layer(layer), rows.lengths, x, hooks)) {
      return absl::CancelledError("interrupted");
    }
  }
  return absl::OkStatus();
}

absl::Status Distillation::StepLayers(const RowBatch& rows, MutableMatrixView gradient) {
  const Index tokens = rows.tokens();
  for (Index i = layers() - 1; i >= 0; --i) {
    TrainedLayer& layer = layers_[static_cast<size_t>(i)];
    gradients_.Begin(layer.weights(), layer.maps());
    BackwardHooks hooks;
    hooks.map_gradient = [&](LinearMap map, Index, MatrixView input, MatrixView of_output) {
      gradients_.Add(map, input, of_output);
    };
    hooks.goes_on = [&](Index) { return Tell(0); };
    const MatrixView x = MatrixView(states_).Rows(i * tokens, tokens);
    if (!layer_backward_.Run(i, layer.weights(), rows.lengths, x, gradient, hooks)) {
      return absl::CancelledError("interrupted");
    }
    layer.Step(pool_, Rate(), point().steps + 1, gradients_);
  }
  return absl::OkStatus();
}

absl::StatusOr<double> Distillation::Step(const RowBatch& rows) {
  const Index tokens = rows.tokens();
  ATTNPRUNE_RETURN_IF_ERROR(RunForward(rows, /*keep=*/true));
  const MutableMatrixView gradient = Room(gradient_, tokens, forward_.options().hidden_size);
  const MatrixView top = MatrixView(states_).Rows(layers() * tokens, tokens);
  ATTNPRUNE_ASSIGN_OR_RETURN(
      const double sum,
      LogitDivergence(forward_, DenseRows(rows), top, gradient, [&](double) { return Tell(0); }));
  const double loss = sum / static_cast<double>(tokens);
  if (!std::isfinite(loss)) return loss;
  ATTNPRUNE_RETURN_IF_ERROR(StepLayers(rows, gradient));
  if (!Tell((1 + kBackwardPasses) * static_cast<double>(tokens))) {
    return absl::CancelledError("interrupted");
  }
  return loss;
}

absl::StatusOr<double> Distillation::ValidationLoss() {
  double sum = 0;
  const auto of_rows = [&](const RowBatch& rows) -> absl::Status {
    ATTNPRUNE_RETURN_IF_ERROR(RunForward(rows, /*keep=*/false));
    const MatrixView top = MatrixView(states_).Rows(0, rows.tokens());
    ATTNPRUNE_ASSIGN_OR_RETURN(const double loss,
                               LogitDivergence(forward_, DenseRows(rows), top, absl::nullopt,
                                               [&](double) { return Tell(0); }));
    sum += loss;
    return Tell(static_cast<double>(rows.tokens())) ? absl::OkStatus()
                                                    : absl::CancelledError("interrupted");
  };
  ATTNPRUNE_RETURN_IF_ERROR(ForValidationRows(of_rows));
  return sum / validation_tokens();
}

void Distillation::KeepAsBest() {
  for (TrainedLayer& layer : layers_) layer.KeepAsBest();
}

void Distillation::TakeBest() {
  for (TrainedLayer& layer : layers_) layer.TakeBest();
}

absl::Status Distillation::Run(const PassOptions& places, const PassListener& listener,
                               const TrainingObserver& observer) {
  listener_ = &listener;
  done_ = StepPasses() * point().steps;
  ATTNPRUNE_RETURN_IF_ERROR(TakeDenseStates(places));
  return RunSteps(observer);
}

DistillationEstimate EstimateDistillation(const ModelOptions& model, double entries,
                                          absl::Span<const Index> lengths,
                                          const TrainingOptions& options) {
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
  const double looks = (kTrainingLooks + 1) * kTrainingValidation;
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
