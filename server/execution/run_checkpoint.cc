#include "server/execution/run_checkpoint.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "server/execution/own_blobs.h"

namespace attnprune {
namespace {

// Saving takes at most this part of the time.
constexpr int kShareOfTime = 33;
// Of a disk that has not been measured yet.
constexpr absl::Duration kCostOfAByte = absl::Nanoseconds(5);
// What is smaller says nothing about the cost of a byte.
constexpr int64_t kBulk = int64_t{1} << 20;

using SteadyClock = std::chrono::steady_clock;

int64_t BytesOfAll(absl::Span<const GramMatrix* const> moments) {
  int64_t bytes = 0;
  for (const GramMatrix* of_group : moments) {
    bytes += static_cast<int64_t>(of_group->flat().size() * sizeof(double));
  }
  return bytes;
}

// The run's id, and the part's number: equal moments of two runs or parts are two blobs.
std::string TailOfSaved(const ClaimedJob& job) {
  const JobClaim& claim = job.claim();
  return absl::StrCat(claim.id, claim.whole() ? "" : absl::StrCat(".", claim.part), ".saved");
}

// All but the curvature: the result of the pass names it in the end.
std::set<std::string> OwnBlobsOf(const v1::RunCheckpoint& message) {
  std::set<std::string> digests(message.moments().begin(), message.moments().end());
  for (const v1::RunCheckpoint::Rows& rows : message.advanced()) digests.insert(rows.digest());
  const auto& layers = message.training().layers();
  digests.insert(layers.begin(), layers.end());
  const v1::RunCheckpoint::Measuring& measuring = message.measuring();
  digests.insert(measuring.sums().begin(), measuring.sums().end());
  for (const v1::RunCheckpoint::Measuring::KeptRows& rows : measuring.kept()) {
    digests.insert(rows.digest());
  }
  if (!measuring.gradient_rows().empty()) digests.insert(measuring.gradient_rows());
  return digests;
}

absl::StatusOr<GramMatrix> ReadGram(ClaimedJob& job, const std::string& digest,
                                    const std::string& tail) {
  ATTNPRUNE_ASSIGN_OR_RETURN(const int64_t bytes, job.tensors()->SizeOf(digest));
  const int64_t entries = (bytes - static_cast<int64_t>(tail.size())) / 8;
  const auto size = static_cast<Index>(std::llround(std::sqrt(static_cast<double>(entries))));
  if (size < 1 || size * size != entries) return absl::DataLossError("not a square matrix");
  GramMatrix gram(size);
  const absl::Span<double> values(&gram(0, 0), static_cast<size_t>(entries));
  ATTNPRUNE_RETURN_IF_ERROR(ReadOwnBlob(job, digest, tail, MutableBytesOf(values)));
  return gram;
}

}  // namespace

RunCheckpoint::RunCheckpoint(ClaimedJob& job)
    : job_(job),
      tail_(TailOfSaved(job)),
      last_(job.options().clock->Now()),
      cost_of_a_byte_(kCostOfAByte) {}

void RunCheckpoint::Warn(absl::string_view what, const absl::Status& status) {
  job_.writer().AddWarning(absl::StrCat(what, ": ", status.message(), "; that work starts over"));
}

void RunCheckpoint::Read() {
  const absl::StatusOr<absl::optional<std::string>> bytes = job_.ReadCheckpoint();
  if (absl::IsAborted(bytes.status())) return job_.stop()->Request(StopReason::kLapsed);
  if (!bytes.ok()) return Warn("checkpoint", bytes.status());
  if (!bytes->has_value()) return;
  if (!message_.ParseFromString(**bytes)) {
    message_.Clear();
    Warn("checkpoint", absl::DataLossError("it is damaged"));
  }
  stored_ = OwnBlobsOf(message_);
}

// --- Going on ---

absl::Status RunCheckpoint::ReadMoments(StretchMoments& moments, size_t groups) {
  std::vector<GramMatrix> all;
  all.reserve(static_cast<size_t>(message_.moments_size()));
  for (const std::string& digest : message_.moments()) {
    ATTNPRUNE_ASSIGN_OR_RETURN(GramMatrix gram, ReadGram(job_, digest, tail_));
    all.push_back(std::move(gram));
  }
  size_t next = 0;
  while (next < groups && next < all.size()) moments.calibration.push_back(std::move(all[next++]));
  if (message_.cross() && next < all.size()) moments.cross = std::move(all[next++]);
  while (next < all.size()) moments.held_out.push_back(std::move(all[next++]));
  moments.calibration_rows = message_.calibration_rows();
  moments.held_out_rows = message_.held_out_rows();
  return absl::OkStatus();
}

StretchMoments RunCheckpoint::TakeMoments(Index block, size_t stretch, size_t groups) {
  StretchMoments moments;
  const bool of_it =
      message_.block() == block && static_cast<size_t>(message_.stretch()) == stretch;
  if (!of_it) return moments;
  const absl::Status status = ReadMoments(moments, groups);
  if (status.ok()) return moments;
  if (!absl::IsCancelled(status)) Warn("moments that were saved", status);
  message_.clear_moments();
  return {};
}

std::string RunCheckpoint::TakeMethodState(Index block, const std::string& tensor) {
  if (message_.block() != block || message_.tensor() != tensor) return "";
  message_.clear_tensor();
  return std::move(*message_.mutable_method_state());
}

Index RunCheckpoint::TakeAdvanced(Index block, v1::HiddenStates::Kind kind,
                                  MutableMatrixView states) {
  if (message_.block() != block) return 0;
  Index done = 0;
  for (const v1::RunCheckpoint::Rows& rows : message_.advanced()) {
    if (rows.kind() != kind) continue;
    const auto read = [&]() -> absl::Status {
      if (rows.end() <= done || rows.end() > states.rows()) {
        return absl::DataLossError("not rows of these states");
      }
      const MutableMatrixView place = states.Rows(done, rows.end() - done);
      const absl::Span<float> values(place.data(), static_cast<size_t>(place.size()));
      return ReadOwnBlob(job_, rows.digest(), tail_, MutableBytesOf(values));
    };
    const absl::Status status = read();
    if (!status.ok()) {
      if (!absl::IsCancelled(status)) Warn("hidden states that were saved", status);
      return done;
    }
    done = rows.end();
  }
  return done;
}

// --- Saving ---

bool RunCheckpoint::Due(int64_t bytes) const {
  if (job_.stop()->requested()) return job_.stop()->reason() == StopReason::kDraining;
  const absl::Duration interval = job_.options().checkpoint_interval;
  if (interval <= absl::ZeroDuration()) return true;
  const absl::Duration cost = std::max(cost_of_a_byte_ * bytes, cost_of_little_);
  return job_.options().clock->Now() - last_ >= std::max(interval, kShareOfTime * cost);
}

void RunCheckpoint::Begin(Index block, size_t stretch) {
  if (message_.block() == block && static_cast<size_t>(message_.stretch()) == stretch) return;
  Forget();
  message_.set_block(static_cast<int>(block));
  message_.set_stretch(static_cast<int>(stretch));
}

absl::StatusOr<std::string> RunCheckpoint::Put(absl::Span<const char> bytes,
                                               const std::string& tail) {
  absl::StatusOr<std::string> digest = job_.tensors()->Put(bytes, tail);
  if (digest.ok()) stored_.insert(*digest);
  return digest;
}

void RunCheckpoint::Write(SteadyClock::time_point start, int64_t bytes) {
  const std::string message = message_.SerializeAsString();
  const absl::Status status = job_.jobs()->SaveCheckpoint(job_.claim(), message);
  const absl::Duration cost = absl::FromChrono(SteadyClock::now() - start);
  bytes += static_cast<int64_t>(message.size());
  if (bytes >= kBulk) {
    cost_of_a_byte_ = cost / bytes;
  } else {
    cost_of_little_ = cost;
  }
  last_ = job_.options().clock->Now();
  if (absl::IsAborted(status)) return job_.stop()->Request(StopReason::kLapsed);
  if (!status.ok()) return job_.Report(status);
  std::set<std::string> named = OwnBlobsOf(message_);
  for (const std::string& digest : stored_) {
    if (named.count(digest) == 0) job_.tensors()->Remove(digest).IgnoreError();
  }
  stored_ = std::move(named);
}

bool RunCheckpoint::HasMomentsOf(const LayerPruner& pruner) const {
  return message_.moments_size() > 0 && message_.calibration_rows() == pruner.calibration_rows() &&
         message_.held_out_rows() == pruner.held_out_rows();
}

void RunCheckpoint::PutMoments(const LayerPruner& pruner) {
  message_.clear_moments();
  for (const GramMatrix* moments : pruner.Moments()) {
    const absl::StatusOr<std::string> digest = Put(BytesOf(moments->flat()), tail_);
    if (!digest.ok()) {
      job_.Report(digest.status());
      message_.clear_moments();
      break;
    }
    message_.add_moments(*digest);
  }
  const bool kept = message_.moments_size() > 0;
  message_.set_calibration_rows(kept ? pruner.calibration_rows() : 0);
  message_.set_held_out_rows(kept ? pruner.held_out_rows() : 0);
  message_.set_cross(kept && pruner.has_cross());
}

void RunCheckpoint::SaveMoments(Index block, size_t stretch, const LayerPruner& pruner) {
  const int64_t bytes = BytesOfAll(pruner.Moments());
  if (!Due(bytes)) return;
  const auto start = SteadyClock::now();
  Begin(block, stretch);
  message_.clear_tensor();
  message_.clear_method_state();
  PutMoments(pruner);
  Write(start, bytes);
}

void RunCheckpoint::SaveMethod(Index block, size_t stretch, const LayerPruner& pruner, bool whole,
                               const std::string& tensor, const Resumable& run) {
  const bool put = whole && !HasMomentsOf(pruner);
  const int64_t bytes = put ? BytesOfAll(pruner.Moments()) : 0;
  if (!Due(bytes + static_cast<int64_t>(message_.method_state().size()))) return;
  const auto start = SteadyClock::now();
  Begin(block, stretch);
  if (put) PutMoments(pruner);
  message_.set_tensor(tensor);
  message_.mutable_method_state()->clear();
  run.AppendState(message_.mutable_method_state());
  Write(start, bytes);
}

void RunCheckpoint::SaveAdvanced(Index block, v1::HiddenStates::Kind kind, MatrixView states,
                                 Index rows) {
  const bool anew =
      message_.block() != block || message_.moments_size() > 0 || !message_.tensor().empty();
  Index begin = 0;
  for (const v1::RunCheckpoint::Rows& saved : message_.advanced()) {
    if (!anew && saved.kind() == kind) begin = saved.end();
  }
  if (rows <= begin) return;
  const MatrixView some = states.Rows(begin, rows - begin);
  const auto bytes = BytesOf<float>({some.data(), static_cast<size_t>(some.size())});
  if (!Due(static_cast<int64_t>(bytes.size()))) return;
  const auto start = SteadyClock::now();
  if (anew) {
    Forget();
    message_.set_block(static_cast<int>(block));
  }
  const absl::StatusOr<std::string> digest = Put(bytes, tail_);
  if (!digest.ok()) return job_.Report(digest.status());
  v1::RunCheckpoint::Rows& saved = *message_.add_advanced();
  saved.set_kind(kind);
  saved.set_end(rows);
  saved.set_digest(*digest);
  Write(start, static_cast<int64_t>(bytes.size()));
}

void RunCheckpoint::AfterResult() {
  message_.clear_tensor();
  message_.clear_method_state();
  if (message_.moments_size() > 0) Write(SteadyClock::now(), 0);
}

void RunCheckpoint::ForgetAdvanced() {
  if (!message_.advanced().empty()) Forget();
}

void RunCheckpoint::ForgetStretch(Index block, size_t stretch) {
  const bool of_it = message_.block() == block &&
                     static_cast<size_t>(message_.stretch()) == stretch &&
                     message_.advanced().empty() && !message_.has_training();
  if (of_it) Forget();
}

void RunCheckpoint::Abandon() {
  for (const std::string& digest : message_.measuring().curvature()) {
    job_.tensors()->Remove(digest).IgnoreError();
  }
  Forget();
}

void RunCheckpoint::Forget() {
  for (const std::string& digest : stored_) job_.tensors()->Remove(digest).IgnoreError();
  stored_.clear();
  message_.Clear();
}

}  // namespace attnprune
