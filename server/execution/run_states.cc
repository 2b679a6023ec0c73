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

absl::StatusOr<RunStates> RunStates::Begin(const Forward& forward, const RunRows& rows,
                                           const PassOptions& options) {
  const ModelOptions& model = forward.options();
  ATTNPRUNE_ASSIGN_OR_RETURN(ScratchMatrix calibration,
                             MakeHiddenStates(model, rows.calibration, options));
  ATTNPRUNE_RETURN_IF_ERROR(forward.Embed(rows.calibration, calibration.view()));
  RunStates states(rows, std::move(calibration));
  if (rows.held_out.lengths.empty()) return states;
  for (absl::optional<ScratchMatrix>* const side : {&states.dense_, &states.pruned_}) {
    ATTNPRUNE_ASSIGN_OR_RETURN(ScratchMatrix hidden,
                               MakeHiddenStates(model, rows.held_out, options));
    ATTNPRUNE_RETURN_IF_ERROR(forward.Embed(rows.held_out, hidden.view()));
    side->emplace(std::move(hidden));
  }
  return states;
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
  const auto store = [&](v1::HiddenStates::Kind kind, MatrixView state) -> absl::Status {
    ATTNPRUNE_ASSIGN_OR_RETURN(std::string digest, PutState(job, state));
    AddState(kind, std::move(digest), state, result);
    return absl::OkStatus();
  };
  ATTNPRUNE_RETURN_IF_ERROR(store(v1::HiddenStates::CALIBRATION, calibration_.view()));
  if (!dense_.has_value()) return absl::OkStatus();
  ATTNPRUNE_RETURN_IF_ERROR(store(v1::HiddenStates::HELD_OUT_DENSE, dense_->view()));
  return store(v1::HiddenStates::HELD_OUT_PRUNED, pruned_->view());
}

absl::Status RunStates::Load(ClaimedJob& job, const v1::RunResult& result) {
  const auto load = [&](v1::HiddenStates::Kind kind, MutableMatrixView state) -> absl::Status {
    const auto& states = result.states();
    const auto found = std::find_if(states.begin(), states.end(),
                                    [&](const auto& message) { return message.kind() == kind; });
    absl::Status status = found == states.end() ? absl::NotFoundError("not in the result")
                                                : LoadState(job, found->tensor().sha256(), state);
    if (status.ok() || absl::IsCancelled(status)) return status;
    return absl::DataLossError(absl::StrCat("hidden states behind block ", result.block(), " (",
                                            v1::HiddenStates::Kind_Name(kind),
                                            "): ", status.message()));
  };
  ATTNPRUNE_RETURN_IF_ERROR(load(v1::HiddenStates::CALIBRATION, calibration_.view()));
  if (!dense_.has_value()) return absl::OkStatus();
  ATTNPRUNE_RETURN_IF_ERROR(load(v1::HiddenStates::HELD_OUT_DENSE, dense_->view()));
  return load(v1::HiddenStates::HELD_OUT_PRUNED, pruned_->view());
}

std::vector<std::string> StatesOf(const v1::RunResult& result) {
  std::vector<std::string> digests;
  for (const v1::HiddenStates& states : result.states()) {
    digests.push_back(states.tensor().sha256());
  }
  return digests;
}

}  // namespace attnprune
