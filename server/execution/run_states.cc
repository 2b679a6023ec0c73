#include "server/execution/run_states.h"

#include <algorithm>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "core/judge/linear_error.h"

namespace attnprune {
namespace {

// A state is stored with its run's id behind it: equal states of two runs are two blobs, so that
// each run can remove its own.
absl::StatusOr<std::string> PutState(ClaimedJob& job, MatrixView state) {
  const auto bytes = static_cast<size_t>(state.size()) * sizeof(float);
  return job.Put({reinterpret_cast<const char*>(state.data()), bytes}, job.record().id);
}

absl::Status LoadState(ClaimedJob& job, const std::string& digest, MutableMatrixView state) {
  ATTNPRUNE_RETURN_IF_ERROR(job.CheckStop());
  ATTNPRUNE_RETURN_IF_ERROR(job.tensors()->Verify(digest));
  ATTNPRUNE_ASSIGN_OR_RETURN(const std::unique_ptr<BlobReader> reader,
                             job.tensors()->OpenForReading(digest));
  const auto floats = static_cast<size_t>(state.size());
  const auto expected = static_cast<int64_t>(floats * sizeof(float) + job.record().id.size());
  if (reader->size() != expected) {
    return absl::DataLossError(
        absl::StrCat("must have ", expected, " bytes, got ", reader->size()));
  }
  return reader->ReadAt(
      0, absl::Span<char>(reinterpret_cast<char*>(state.data()), floats * sizeof(float)));
}

void AddState(v1::HiddenStates::Kind kind, std::string digest, MatrixView state,
              v1::RunResult& result) {
  v1::HiddenStates& message = *result.add_states();
  message.set_kind(kind);
  message.mutable_tensor()->set_sha256(std::move(digest));
  message.mutable_tensor()->set_dtype(v1::F32);
  message.mutable_tensor()->add_shape(state.rows());
  message.mutable_tensor()->add_shape(state.cols());
}

}  // namespace

absl::StatusOr<RunStates> RunStates::Begin(const Forward& forward, const RunRows& rows, bool beside,
                                           const PassOptions& options) {
  const auto embed = [&](const Tokens& tokens) -> absl::StatusOr<ScratchMatrix> {
    ATTNPRUNE_ASSIGN_OR_RETURN(ScratchMatrix hidden,
                               MakeHiddenStates(forward.options(), tokens, options));
    ATTNPRUNE_RETURN_IF_ERROR(forward.Embed(tokens, hidden.view()));
    return hidden;
  };
  ATTNPRUNE_ASSIGN_OR_RETURN(ScratchMatrix calibration, embed(rows.calibration));
  RunStates states(rows, std::move(calibration));
  if (beside) {
    ATTNPRUNE_ASSIGN_OR_RETURN(ScratchMatrix dense, embed(rows.calibration));
    states.beside_.emplace(std::move(dense));
  }
  if (rows.held_out.lengths.empty()) return states;
  for (absl::optional<ScratchMatrix>* const side : {&states.dense_, &states.pruned_}) {
    ATTNPRUNE_ASSIGN_OR_RETURN(ScratchMatrix hidden, embed(rows.held_out));
    side->emplace(std::move(hidden));
  }
  return states;
}

std::vector<RunStates::Part> RunStates::Parts() {
  std::vector<Part> parts = {{v1::HiddenStates::CALIBRATION, calibration_.view()}};
  if (beside_.has_value()) parts.push_back({v1::HiddenStates::CALIBRATION_DENSE, beside_->view()});
  if (dense_.has_value()) {
    parts.push_back({v1::HiddenStates::HELD_OUT_DENSE, dense_->view()});
    parts.push_back({v1::HiddenStates::HELD_OUT_PRUNED, pruned_->view()});
  }
  return parts;
}

absl::optional<double> RunStates::OutputError() {
  if (!dense_.has_value()) return absl::nullopt;
  const MatrixView dense = dense_->view(), pruned = pruned_->view();
  double difference = 0, norm = 0;
  for (Index i = 0; i < dense.size(); ++i) {
    const double d = dense.data()[i], off = static_cast<double>(pruned.data()[i]) - d;
    difference += off * off;
    norm += d * d;
  }
  return LinearError{.difference = difference, .dense = norm}.relative();
}

absl::Status RunStates::Store(ClaimedJob& job, v1::RunResult& result) {
  for (const Part& part : Parts()) {
    ATTNPRUNE_ASSIGN_OR_RETURN(std::string digest, PutState(job, part.state));
    AddState(part.kind, std::move(digest), part.state, result);
  }
  return absl::OkStatus();
}

absl::Status RunStates::Load(ClaimedJob& job, const v1::RunResult& result) {
  for (const Part& part : Parts()) {
    const auto& states = result.states();
    const auto found = std::find_if(states.begin(), states.end(), [&](const auto& message) {
      return message.kind() == part.kind;
    });
    absl::Status status = found == states.end()
                              ? absl::NotFoundError("not in the result")
                              : LoadState(job, found->tensor().sha256(), part.state);
    if (absl::IsCancelled(status)) return status;
    if (status.ok()) continue;
    return absl::DataLossError(absl::StrCat("hidden states behind block ", result.block(), " (",
                                            v1::HiddenStates::Kind_Name(part.kind),
                                            "): ", status.message()));
  }
  return absl::OkStatus();
}

}  // namespace attnprune
