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

// A state that a later one takes the place of is another blob, whatever its bytes.
std::string TailOfKept(absl::string_view tail, Index end) {
  return absl::StrCat(tail, ".kept.", end);
}

std::string TailOfGradients(absl::string_view tail, const CurvaturePoint& point) {
  return absl::StrCat(tail, ".gradients.", point.gradients, ".", point.back);
}

std::string TailOfSums(absl::string_view tail, const CurvaturePoint& point, size_t number) {
  return absl::StrCat(tail, ".sums.", point.back, ".", number);
}

CurvaturePoint PointOf(const Measuring& saved) {
  return {.forward = saved.forward(), .gradients = saved.gradients(), .back = saved.back()};
}

absl::Span<float> ValuesOf(MutableMatrixView states) {
  return {states.data(), static_cast<size_t>(states.size())};
}

// Rows of Kept that are saved.
Index KeptEnd(const Measuring& saved) {
  return saved.kept().empty() ? 0 : saved.kept().rbegin()->end();
}

// That a save at the pass's point writes.
int64_t BytesToSave(CurvaturePass& pass, const Measuring& saved) {
  const int64_t row = pass.Kept(1).cols() * static_cast<int64_t>(sizeof(float));
  const Index kept = std::max<Index>(pass.kept_rows() - KeptEnd(saved), 0);
  int64_t bytes = (kept + pass.gradient_rows()) * row;
  for (const absl::Span<double> sums : pass.Sums()) {
    bytes += static_cast<int64_t>(sums.size() * sizeof(double));
  }
  return bytes;
}

// Drops what the point does not need from what is saved.
void DropUnneeded(CurvaturePass& pass, Measuring& saved) {
  saved.clear_sums();
  saved.clear_gradient_rows();
  const Index needed = pass.kept_rows();
  while (saved.kept_size() > 0) {
    const Index begin = saved.kept_size() > 1 ? saved.kept(saved.kept_size() - 2).end() : 0;
    if (begin < needed) break;
    saved.mutable_kept()->RemoveLast();
  }
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
  Write(start, 0);
}

// --- The curvature's pass ---

absl::Status RunCheckpoint::ReadMeasuring(CurvaturePass& pass) {
  const Measuring& saved = message_.measuring();
  const CurvaturePoint point = PointOf(saved);
  ATTNPRUNE_RETURN_IF_ERROR(pass.SetPoint(point));
  const std::vector<std::string> taken(saved.curvature().begin(), saved.curvature().end());
  ATTNPRUNE_ASSIGN_OR_RETURN(const std::vector<std::string> missing,
                             job_.tensors()->FindMissing(taken));
  if (!missing.empty()) return absl::DataLossError("a layer's curvature is gone");
  const std::vector<absl::Span<double>> sums = pass.Sums();
  if (std::ssize(taken) != pass.layers_through() || KeptEnd(saved) < pass.kept_rows() ||
      static_cast<size_t>(saved.sums_size()) != sums.size()) {
    return absl::DataLossError("not of this model");
  }
  Index begin = 0;
  for (const Measuring::KeptRows& rows : saved.kept()) {
    if (rows.end() <= begin || rows.end() > pass.most_kept_rows()) {
      return absl::DataLossError("not rows of this model");
    }
    const MutableMatrixView into = pass.Kept(rows.end()).Rows(begin, rows.end() - begin);
    ATTNPRUNE_RETURN_IF_ERROR(ReadOwnBlob(job_, rows.digest(), TailOfKept(tail_, rows.end()),
                                          MutableBytesOf(ValuesOf(into))));
    begin = rows.end();
  }
  if (pass.gradient_rows() > 0) {
    ATTNPRUNE_RETURN_IF_ERROR(ReadOwnBlob(job_, saved.gradient_rows(),
                                          TailOfGradients(tail_, point),
                                          MutableBytesOf(ValuesOf(pass.Gradients()))));
  }
  for (size_t i = 0; i < sums.size(); ++i) {
    ATTNPRUNE_RETURN_IF_ERROR(ReadOwnBlob(job_, saved.sums(static_cast<int>(i)),
                                          TailOfSums(tail_, point, i), MutableBytesOf(sums[i])));
  }
  return absl::OkStatus();
}

// Damage leaves the blobs to the next save: whoever has the job now may need them.
absl::StatusOr<Measuring> RunCheckpoint::TakeMeasuring(CurvaturePass& pass) {
  if (!message_.has_measuring()) return Measuring();
  const absl::Status status = ReadMeasuring(pass);
  const bool damaged =
      absl::IsDataLoss(status) || absl::IsNotFound(status) || absl::IsInvalidArgument(status);
  if (!status.ok() && !damaged) return status;
  if (damaged) {
    Warn("curvature that was saved", status);
    message_.clear_measuring();
    ATTNPRUNE_RETURN_IF_ERROR(pass.SetPoint({}));
    return Measuring();
  }
  Measuring taken;
  *taken.mutable_curvature() = message_.measuring().curvature();
  *taken.mutable_scores() = message_.measuring().scores();
  return taken;
}

// Rows that were saved long ago begin their grace anew; where one is gone all are to be put again.
void RunCheckpoint::KeepRows(Measuring& saved) {
  std::vector<std::string> digests;
  for (const Measuring::KeptRows& rows : saved.kept()) digests.push_back(rows.digest());
  const absl::StatusOr<std::vector<std::string>> missing = job_.tensors()->FindMissing(digests);
  if (!missing.ok() || !missing->empty()) saved.clear_kept();
}

// Adds what is needed and not saved yet.
absl::Status RunCheckpoint::PutMeasuring(CurvaturePass& pass, Measuring& saved) {
  const CurvaturePoint& point = pass.point();
  const Index begin = KeptEnd(saved), end = pass.kept_rows();
  if (end > begin) {
    const MutableMatrixView rows = pass.Kept(end).Rows(begin, end - begin);
    ATTNPRUNE_ASSIGN_OR_RETURN(std::string digest,
                               Put(BytesOf<float>(ValuesOf(rows)), TailOfKept(tail_, end)));
    Measuring::KeptRows& kept = *saved.add_kept();
    kept.set_end(end);
    kept.set_digest(std::move(digest));
  }
  if (pass.gradient_rows() > 0) {
    ATTNPRUNE_ASSIGN_OR_RETURN(
        *saved.mutable_gradient_rows(),
        Put(BytesOf<float>(ValuesOf(pass.Gradients())), TailOfGradients(tail_, point)));
  }
  const std::vector<absl::Span<double>> sums = pass.Sums();
  for (size_t i = 0; i < sums.size(); ++i) {
    ATTNPRUNE_ASSIGN_OR_RETURN(std::string digest,
                               Put(BytesOf<double>(sums[i]), TailOfSums(tail_, point, i)));
    saved.add_sums(std::move(digest));
  }
  return absl::OkStatus();
}

void RunCheckpoint::SaveMeasuring(CurvaturePass& pass, const Measuring& measured, int64_t needed) {
  const int64_t bytes = BytesToSave(pass, message_.measuring());
  const JobRunnerOptions& options = job_.options();
  if (!Due(bytes) || !CheckDiskRoom(options.spill_folder, needed + bytes,
                                    options.min_free_disk_bytes, "the server's disk")
                          .ok()) {
    return;
  }
  const auto start = std::chrono::steady_clock::now();
  Measuring saved = message_.measuring();
  DropUnneeded(pass, saved);
  KeepRows(saved);
  const absl::Status status = PutMeasuring(pass, saved);
  if (!status.ok()) return job_.Report(status);
  const CurvaturePoint& point = pass.point();
  saved.set_forward(point.forward);
  saved.set_gradients(point.gradients);
  saved.set_back(point.back);
  *saved.mutable_curvature() = measured.curvature();
  *saved.mutable_scores() = measured.scores();
  *message_.mutable_measuring() = std::move(saved);
  Write(start, bytes);
}

}  // namespace attnprune
