// What a run writes down before its blocks (run_checkpoint.h): rows that it samples, and the pass
// that takes the curvature.
#include <algorithm>
#include <chrono>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "server/execution/own_blobs.h"
#include "server/execution/run_checkpoint.h"

namespace attnprune {
namespace {

using Measuring = v1::RunCheckpoint::Measuring;

absl::Span<float> ValuesOf(MutableMatrixView states) {
  return {states.data(), static_cast<size_t>(states.size())};
}

int64_t ByteCount(MutableMatrixView states) {
  return states.size() * static_cast<int64_t>(sizeof(float));
}

// Equal states of two layers are two blobs: one is removed before the other.
std::string TailOfInput(absl::string_view tail, Index layer) {
  return absl::StrCat(tail, ".input.", layer);
}

std::string TailOfGradients(absl::string_view tail, Index back) {
  return absl::StrCat(tail, ".gradients.", back);
}

CurvaturePoint PointOf(const Measuring& saved) {
  CurvaturePoint point;
  point.forward = saved.forward();
  if (saved.has_back()) point.back = saved.back();
  return point;
}

// Whether the pass can stand there, with all that it needs.
absl::Status CheckPoint(const Measuring& saved, Index layers) {
  const CurvaturePoint point = PointOf(saved);
  const bool forth = point.forward >= 0 && point.forward <= layers;
  const bool back = !point.back.has_value() || (point.forward == layers && *point.back >= 0 &&
                                                *point.back <= layers);
  const Index through = layers - point.back.value_or(layers);
  if (!forth || !back || saved.inputs_size() < point.inputs() ||
      saved.curvature_size() != through) {
    return absl::DataLossError("not of this model");
  }
  return absl::OkStatus();
}

}  // namespace

// --- Rows that the model writes ---

SampledSoFar RunCheckpoint::TakeSampled() {
  const v1::RunCheckpoint::Sampling& saved = message_.sampling();
  SampledSoFar rows;
  auto next = saved.ids().begin();
  for (const int32_t length : saved.lengths()) {
    if (length < 0 || length > saved.ids().end() - next) {
      Warn("rows that were saved", absl::DataLossError("they are damaged"));
      return {};
    }
    rows.emplace_back(next, next + length);
    next += length;
  }
  return rows;
}

void RunCheckpoint::SaveSampled(const SampledSoFar& rows) {
  int64_t tokens = 0;
  for (const std::vector<int64_t>& row : rows) tokens += std::ssize(row);
  if (!Due(tokens * static_cast<int64_t>(sizeof(int32_t)))) return;
  const auto start = std::chrono::steady_clock::now();
  v1::RunCheckpoint::Sampling& saved = *message_.mutable_sampling();
  saved.Clear();
  for (const std::vector<int64_t>& row : rows) {
    saved.mutable_ids()->Add(row.begin(), row.end());
    saved.add_lengths(static_cast<int32_t>(row.size()));
  }
  Write(start, 0, {});
}

// --- The curvature's pass ---

absl::Status RunCheckpoint::ReadMeasuring(CurvaturePass& pass) {
  const Measuring& saved = message_.measuring();
  ATTNPRUNE_RETURN_IF_ERROR(CheckPoint(saved, pass.layers()));
  const std::vector<std::string> taken(saved.curvature().begin(), saved.curvature().end());
  ATTNPRUNE_ASSIGN_OR_RETURN(const std::vector<std::string> missing,
                             job_.tensors()->FindMissing(taken));
  if (!missing.empty()) return absl::DataLossError("a layer's curvature is gone");
  const auto read = [this](const std::string& digest, const std::string& tail,
                           MutableMatrixView into) {
    return ReadOwnBlob(job_, digest, tail, MutableBytesOf(ValuesOf(into)));
  };
  const CurvaturePoint point = PointOf(saved);
  for (Index layer = 1; layer <= point.inputs(); ++layer) {
    ATTNPRUNE_RETURN_IF_ERROR(read(saved.inputs(static_cast<int>(layer) - 1),
                                   TailOfInput(tail_, layer), pass.Input(layer)));
  }
  if (point.back.has_value()) {
    ATTNPRUNE_RETURN_IF_ERROR(
        read(saved.gradients(), TailOfGradients(tail_, *point.back), pass.Gradients()));
  }
  pass.SetPoint(point);
  return absl::OkStatus();
}

absl::StatusOr<Measuring> RunCheckpoint::TakeMeasuring(CurvaturePass& pass) {
  if (!message_.has_measuring()) return Measuring();
  const absl::Status status = ReadMeasuring(pass);
  if (absl::IsCancelled(status)) return status;
  if (!status.ok()) {
    Warn("curvature that was saved", status);
    Forget();
    return Measuring();
  }
  Measuring taken;
  *taken.mutable_curvature() = message_.measuring().curvature();
  *taken.mutable_scores() = message_.measuring().scores();
  return taken;
}

void RunCheckpoint::SaveMeasuring(CurvaturePass& pass, const Measuring& measured) {
  const CurvaturePoint& point = pass.point();
  Measuring saved = message_.measuring();
  const auto needed = static_cast<int>(point.inputs());
  const int64_t inputs =
      std::max(needed - saved.inputs_size(), 0) * ByteCount(pass.Input(0));
  const int64_t bytes = inputs + (point.back.has_value() ? ByteCount(pass.Gradients()) : 0);
  if (!Due(bytes)) return;
  const auto start = std::chrono::steady_clock::now();
  std::vector<std::string> unused, put;
  const auto add = [&](MutableMatrixView states, const std::string& tail) {
    absl::StatusOr<std::string> digest =
        job_.tensors()->Put(BytesOf<float>(ValuesOf(states)), tail);
    if (digest.ok()) put.push_back(*digest);
    return digest;
  };
  const auto put_all = [&]() -> absl::Status {
    while (saved.inputs_size() < needed) {
      const Index layer = saved.inputs_size() + 1;
      ATTNPRUNE_ASSIGN_OR_RETURN(std::string digest,
                                 add(pass.Input(layer), TailOfInput(tail_, layer)));
      saved.add_inputs(std::move(digest));
    }
    if (!point.back.has_value()) return absl::OkStatus();
    if (!saved.gradients().empty()) unused.push_back(saved.gradients());
    ATTNPRUNE_ASSIGN_OR_RETURN(
        *saved.mutable_gradients(),
        add(pass.Gradients(), TailOfGradients(tail_, *point.back)));
    return absl::OkStatus();
  };
  const absl::Status status = put_all();
  if (!status.ok()) {
    for (const std::string& digest : put) job_.tensors()->Remove(digest).IgnoreError();
    return job_.Report(status);
  }
  for (int i = needed; i < saved.inputs_size(); ++i) unused.push_back(saved.inputs(i));
  saved.mutable_inputs()->DeleteSubrange(needed, saved.inputs_size() - needed);
  saved.set_forward(static_cast<int>(point.forward));
  if (point.back.has_value()) saved.set_back(static_cast<int>(*point.back));
  *saved.mutable_curvature() = measured.curvature();
  *saved.mutable_scores() = measured.scores();
  *message_.mutable_measuring() = std::move(saved);
  Write(start, bytes, unused);
}

}  // namespace attnprune
