#include "server/execution/method_messages.h"

#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <utility>

#include "absl/strings/string_view.h"
#include "server/execution/job_spec.h"

namespace attnprune {
namespace {

v1::BatchScore ToProto(const BatchScore& score) {
  v1::BatchScore message;
  message.set_relative_error(score.relative_error);
  message.mutable_per_head()->Add(score.per_head.begin(), score.per_head.end());
  // Of a run that ended in a numerical error the real-valued mask can be too large to be scored.
  if (score.soft_relative_error.has_value() && std::isfinite(*score.soft_relative_error)) {
    message.set_soft_relative_error(*score.soft_relative_error);
  }
  message.set_linear_error(score.linear_error);
  if (score.mask_only_relative_error.has_value()) {
    message.set_mask_only_relative_error(*score.mask_only_relative_error);
  }
  return message;
}

void AddScore(const Score& score, v1::MethodResult* result) {
  *result->mutable_calibration() = ToProto(score.calibration);
  result->mutable_relative_error()->set_calibration(score.calibration.relative_error);
  *result->mutable_per_head()->mutable_calibration() = result->calibration().per_head();
  if (!score.held_out.has_value()) return;
  *result->mutable_held_out() = ToProto(*score.held_out);
  result->mutable_relative_error()->set_held_out(score.held_out->relative_error);
  *result->mutable_per_head()->mutable_held_out() = result->held_out().per_head();
}

// The product of two factors has no input and no name; its dtype is F32.
void AddMatrix(absl::Span<const JobTensor> inputs, const PrunedMatrix& matrix,
               const MatrixSparsity& sparsity, v1::MethodResult* result) {
  v1::MatrixResult& message = *result->add_matrices();
  message.set_name(matrix.name);
  message.set_pruned(sparsity.pruned);
  message.set_size(sparsity.size);
  message.set_sparsity(sparsity.achieved());
  v1::TensorRef& weights = *message.mutable_weights();
  weights.set_dtype(v1::F32);
  if (const JobTensor* input = InputWeight(inputs, matrix.name); input != nullptr) {
    weights.set_dtype(ToProto(input->dtype));
    weights.set_name(input->name);
  }
  weights.add_shape(matrix.weights.rows());
  weights.add_shape(matrix.weights.cols());
  *message.mutable_mask() = weights;
  message.mutable_mask()->set_dtype(v1::BITMASK);
}

void AddFigure(const char* name, const TheoryFigure& figure, v1::MethodResult* result) {
  v1::TheoryFigure& message = *result->add_theory();
  message.set_name(name);
  if (figure.value.has_value()) message.set_value(*figure.value);
  message.set_vacuous_because(figure.vacuous_because);
}

void AddTheory(const TheoryFigures& figures, v1::MethodResult* result) {
  AddFigure("beta", figures.beta, result);
  AddFigure("delta", figures.delta, result);
  AddFigure("mu", figures.mu, result);
  AddFigure("xi", figures.xi, result);
  AddFigure("lipschitz", figures.lipschitz, result);
}

static_assert(std::endian::native == std::endian::little);

struct Trailer {
  char magic[8];
  int64_t method_index;
  double seconds;
};
static_assert(sizeof(Trailer) == 24);

constexpr absl::string_view kMagic = "ANPCKPT1";

}  // namespace

double EstimateRemaining(const StepStats& stats, int steps_before) {
  const int taken = stats.step - steps_before;
  return taken < 1 ? 0 : stats.seconds / taken * (stats.steps - stats.step);
}

v1::Progress MakeProgress(const std::string& label, const StepStats& stats, int steps_before,
                          double seconds_before) {
  v1::Progress progress;
  progress.set_method(label);
  progress.set_step(stats.step);
  progress.set_steps(stats.steps);
  progress.set_attention_loss(stats.attention_loss);
  progress.set_regularization(stats.regularization);
  progress.set_soft_relative_error(stats.soft_relative_error);
  progress.set_gradient_norm(stats.gradient_norm);
  if (stats.calibration_error.has_value()) progress.set_calibration_error(*stats.calibration_error);
  if (stats.held_out_error.has_value()) progress.set_held_out_error(*stats.held_out_error);
  progress.set_elapsed_seconds(seconds_before + stats.seconds);
  progress.set_remaining_seconds(EstimateRemaining(stats, steps_before));
  return progress;
}

v1::Progress MakePhaseProgress(v1::Phase phase, const std::string& method, double share,
                               double seconds) {
  v1::Progress progress;
  progress.mutable_phase()->set_phase(phase);
  progress.mutable_phase()->set_method(method);
  progress.mutable_phase()->set_share(share);
  progress.mutable_phase()->set_elapsed_seconds(seconds);
  return progress;
}

v1::MethodResult MakeMethodResult(const std::string& label, absl::Span<const JobTensor> inputs,
                                  const PruneResult& result, const Score& score, double seconds) {
  v1::MethodResult message;
  message.set_method(label);
  AddScore(score, &message);
  AddTheory(score.theory, &message);
  double pruned = 0, size = 0;
  for (size_t i = 0; i < result.matrices.size(); ++i) {
    AddMatrix(inputs, result.matrices[i], score.sparsity[i], &message);
    pruned += static_cast<double>(score.sparsity[i].pruned);
    size += static_cast<double>(score.sparsity[i].size);
  }
  message.set_sparsity(pruned / size);
  message.set_termination_reason(std::string(ToString(result.reason)));
  message.set_steps(result.steps);
  message.set_seconds(seconds);
  message.set_damping_retries(result.damping_retries);
  return message;
}

v1::MethodResult MakeFailedMethod(const std::string& label, const absl::Status& status) {
  v1::MethodResult message;
  message.set_method(label);
  message.mutable_failure()->set_code(static_cast<int>(status.code()));
  message.mutable_failure()->set_message(std::string(status.message()));
  return message;
}

std::string FormatMethodCheckpoint(MethodCheckpoint checkpoint) {
  Trailer trailer{{}, checkpoint.method_index, checkpoint.seconds};
  std::memcpy(trailer.magic, kMagic.data(), sizeof(trailer.magic));
  char bytes[sizeof(Trailer)];
  std::memcpy(bytes, &trailer, sizeof(bytes));
  return std::move(checkpoint.state.append(bytes, sizeof(bytes)));
}

absl::StatusOr<MethodCheckpoint> ParseMethodCheckpoint(std::string bytes) {
  Trailer trailer{};
  if (bytes.size() >= sizeof(trailer)) {
    std::memcpy(&trailer, bytes.data() + bytes.size() - sizeof(trailer), sizeof(trailer));
  }
  if (absl::string_view(trailer.magic, sizeof(trailer.magic)) != kMagic) {
    return absl::DataLossError("the checkpoint is not one of a method");
  }
  bytes.resize(bytes.size() - sizeof(trailer));
  return MethodCheckpoint{static_cast<int>(trailer.method_index), trailer.seconds,
                          std::move(bytes)};
}

}  // namespace attnprune
