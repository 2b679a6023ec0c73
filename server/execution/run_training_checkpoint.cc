// What a run's trainings write down on their way (run_checkpoint.h).
#include <algorithm>
#include <chrono>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "server/execution/own_blobs.h"
#include "server/execution/run_checkpoint.h"

namespace attnprune {
namespace {

size_t CountOfValues(absl::Span<const absl::Span<float>> values) {
  size_t count = 0;
  for (const absl::Span<float> some : values) count += some.size();
  return count;
}

std::vector<float> Gathered(absl::Span<const absl::Span<float>> values) {
  std::vector<float> all;
  all.reserve(CountOfValues(values));
  for (const absl::Span<float> some : values) all.insert(all.end(), some.begin(), some.end());
  return all;
}

}  // namespace

// Whether all that was saved is there, before any of it is taken up.
absl::Status RunCheckpoint::CheckTraining(Training& training) {
  const v1::RunCheckpoint::TrainingState& saved = message_.training();
  const Index layers = training.trained_layers();
  if (saved.layers_size() != layers) return absl::DataLossError("not of these layers");
  for (Index layer = 0; layer < layers; ++layer) {
    const std::string& digest = saved.layers(static_cast<int>(layer));
    ATTNPRUNE_RETURN_IF_ERROR(job_.CheckStop());
    ATTNPRUNE_RETURN_IF_ERROR(job_.Retry([&] { return job_.tensors()->Verify(digest); }));
    ATTNPRUNE_ASSIGN_OR_RETURN(const int64_t bytes, job_.tensors()->SizeOf(digest));
    const size_t expected = CountOfValues(training.Values(layer)) * sizeof(float) + tail_.size();
    if (bytes != static_cast<int64_t>(expected)) {
      return absl::DataLossError(absl::StrCat("must have ", expected, " bytes, got ", bytes));
    }
  }
  return absl::OkStatus();
}

absl::Status RunCheckpoint::TakeTraining(Index block, Training& training) {
  if (!message_.has_training() || message_.block() != block) return absl::OkStatus();
  const v1::RunCheckpoint::TrainingState& saved = message_.training();
  absl::Status whole = CheckTraining(training);
  if (absl::IsCancelled(whole)) return whole;
  if (!whole.ok()) {
    Warn("training that was saved", whole);
    return absl::OkStatus();
  }
  for (Index layer = 0; layer < training.trained_layers(); ++layer) {
    const std::vector<absl::Span<float>> values = training.Values(layer);
    std::vector<float> read(CountOfValues(values));
    ATTNPRUNE_RETURN_IF_ERROR(ReadOwnBlob(job_, saved.layers(static_cast<int>(layer)), tail_,
                                          MutableBytesOf(absl::MakeSpan(read))));
    auto next = read.begin();
    for (const absl::Span<float> some : values) {
      std::copy_n(next, some.size(), some.begin());
      next += static_cast<std::ptrdiff_t>(some.size());
    }
  }
  training.SetPoint({.steps = saved.steps(),
                     .start = saved.start(),
                     .best = saved.best(),
                     .best_step = saved.best_step()});
  return absl::OkStatus();
}

void RunCheckpoint::SaveTraining(Index block, Training& training) {
  const Index layers = training.trained_layers();
  size_t count = 0;
  for (Index layer = 0; layer < layers; ++layer) count += CountOfValues(training.Values(layer));
  const auto bytes = static_cast<int64_t>(count * sizeof(float));
  if (!Due(bytes)) return;
  const auto start = std::chrono::steady_clock::now();
  if (!message_.has_training() || message_.block() != block) Forget();
  message_.set_block(static_cast<int>(block));
  const TrainingPoint& point = training.point();
  v1::RunCheckpoint::TrainingState saved;
  saved.set_steps(point.steps);
  saved.set_start(point.start.value_or(0));
  saved.set_best(point.best.value_or(0));
  saved.set_best_step(point.best_step);
  for (Index layer = 0; layer < layers; ++layer) {
    const std::vector<float> values = Gathered(training.Values(layer));
    const absl::StatusOr<std::string> digest = Put(BytesOf<float>(values), tail_);
    if (!digest.ok()) return job_.Report(digest.status());
    saved.add_layers(*digest);
  }
  *message_.mutable_training() = std::move(saved);
  Write(start, bytes);
}

}  // namespace attnprune
