#include "server/execution/run_states.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "core/judge/linear_error.h"
#include "server/execution/own_blobs.h"

namespace attnprune {
namespace {

// The run's id, and the part's number: equal states of two runs or parts are two blobs.
std::string TailOf(const ClaimedJob& job) { return job.record().id; }
std::string TailOf(const ClaimedJob& job, int part) {
  return absl::StrCat(job.record().id, ".", part);
}

absl::Span<float> FloatsOf(MutableMatrixView state) {
  return {state.data(), static_cast<size_t>(state.size())};
}

absl::StatusOr<std::string> PutState(ClaimedJob& job, MutableMatrixView state,
                                     const std::string& tail) {
  return job.Put(BytesOf<float>(FloatsOf(state)), tail);
}

absl::Status LoadState(ClaimedJob& job, const std::string& digest, const std::string& tail,
                       MutableMatrixView state) {
  return ReadOwnBlob(job, digest, tail, MutableBytesOf(FloatsOf(state)));
}

absl::Status LossOf(const absl::Status& status, absl::string_view where,
                    v1::HiddenStates::Kind kind) {
  if (status.ok() || absl::IsCancelled(status)) return status;
  return absl::DataLossError(absl::StrCat(
      "hidden states ", where, " (", v1::HiddenStates::Kind_Name(kind), "): ", status.message()));
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
                                           const Kinds& kinds, const PassOptions& options) {
  RunStates states(rows);
  const bool held_out = !rows.held_out.lengths.empty();
  const auto embed = [&](bool wanted, const Tokens& tokens,
                         absl::optional<ScratchMatrix>& to) -> absl::Status {
    if (!wanted) return absl::OkStatus();
    ATTNPRUNE_ASSIGN_OR_RETURN(ScratchMatrix hidden,
                               MakeHiddenStates(forward.options(), tokens.total(), options));
    if (kinds.filled) ATTNPRUNE_RETURN_IF_ERROR(forward.Embed(tokens, hidden.view()));
    to.emplace(std::move(hidden));
    return absl::OkStatus();
  };
  ATTNPRUNE_RETURN_IF_ERROR(embed(kinds.calibration, rows.calibration, states.calibration_));
  ATTNPRUNE_RETURN_IF_ERROR(embed(kinds.beside, rows.calibration, states.beside_));
  ATTNPRUNE_RETURN_IF_ERROR(embed(held_out && kinds.dense, rows.held_out, states.dense_));
  ATTNPRUNE_RETURN_IF_ERROR(embed(held_out && kinds.pruned, rows.held_out, states.pruned_));
  return states;
}

std::vector<RunStates::State> RunStates::All() {
  std::vector<State> all;
  const auto add = [&all](v1::HiddenStates::Kind kind, absl::optional<ScratchMatrix>& states) {
    if (states.has_value()) all.push_back({kind, states->view()});
  };
  add(v1::HiddenStates::CALIBRATION, calibration_);
  add(v1::HiddenStates::CALIBRATION_DENSE, beside_);
  add(v1::HiddenStates::HELD_OUT_DENSE, dense_);
  add(v1::HiddenStates::HELD_OUT_PRUNED, pruned_);
  return all;
}

absl::optional<double> RunStates::OutputError() {
  if (!dense_.has_value() || !pruned_.has_value()) return absl::nullopt;
  const MatrixView dense = dense_->view(), pruned = pruned_->view();
  double difference = 0, norm = 0;
  for (Index i = 0; i < dense.size(); ++i) {
    const double d = dense.data()[i], off = static_cast<double>(pruned.data()[i]) - d;
    difference += off * off;
    norm += d * d;
  }
  return LinearError{.difference = difference, .dense = norm}.relative();
}

void RunStates::CopyFrom(RunStates& from) {
  const std::vector<State> source = from.All(), target = All();
  for (size_t i = 0; i < source.size(); ++i) {
    const MutableMatrixView values = source[i].values;
    std::copy(values.data(), values.data() + values.size(), target[i].values.data());
  }
}

absl::Status RunStates::Store(ClaimedJob& job, v1::RunResult& result) {
  for (const State& state : All()) {
    ATTNPRUNE_ASSIGN_OR_RETURN(std::string digest, PutState(job, state.values, TailOf(job)));
    AddState(state.kind, std::move(digest), state.values, result);
  }
  return absl::OkStatus();
}

absl::Status RunStates::Load(ClaimedJob& job, const v1::RunResult& result) {
  const std::string where = absl::StrCat("behind block ", result.block());
  for (const State& state : All()) {
    const auto& stored = result.states();
    const auto found = std::find_if(stored.begin(), stored.end(), [&](const auto& message) {
      return message.kind() == state.kind;
    });
    const absl::Status status =
        found == stored.end() ? absl::NotFoundError("not in the result")
                              : LoadState(job, found->tensor().sha256(), TailOf(job), state.values);
    ATTNPRUNE_RETURN_IF_ERROR(LossOf(status, where, state.kind));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<std::string>> RunStates::StoreForPart(ClaimedJob& job, int part) {
  std::vector<std::string> digests;
  for (const State& state : All()) {
    ATTNPRUNE_ASSIGN_OR_RETURN(std::string digest, PutState(job, state.values, TailOf(job, part)));
    digests.push_back(std::move(digest));
  }
  return digests;
}

absl::Status RunStates::LoadForPart(ClaimedJob& job, int part,
                                    absl::Span<const std::string> digests) {
  const std::string where = absl::StrCat("before block ", part);
  const std::vector<State> all = All();
  for (size_t i = 0; i < all.size(); ++i) {
    const absl::Status status = i < digests.size()
                                    ? LoadState(job, digests[i], TailOf(job, part), all[i].values)
                                    : absl::NotFoundError("not stored");
    ATTNPRUNE_RETURN_IF_ERROR(LossOf(status, where, all[i].kind));
  }
  return absl::OkStatus();
}

}  // namespace attnprune
