// What a run's distillation writes down on its way (run_checkpoint.h).
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
absl::Status RunCheckpoint::CheckTraining(Distillation& distillation, Index layers) {
  const v1::RunCheckpoint::Training& training = message_.training();
  if (training.layers_size() != layers) return absl::DataLossError("not of these layers");
  for (Index layer = 0; layer < layers; ++layer) {
    const std::string& digest = training.layers(static_cast<int>(layer));
    ATTNPRUNE_RETURN_IF_ERROR(job_.CheckStop());
    ATTNPRUNE_RETURN_IF_ERROR(job_.tensors()->Verify(digest));
    ATTNPRUNE_ASSIGN_OR_RETURN(const int64_t bytes, job_.tensors()->SizeOf(digest));
    const size_t expected =
        CountOfValues(distillation.Values(layer)) * sizeof(float) + tail_.size();
    if (bytes != static_cast<int64_t>(expected)) {
      return absl::DataLossError(absl::StrCat("must have ", expected, " bytes, got ", bytes));
    }
  }
  return absl::OkStatus();
}

absl::Status RunCheckpoint::TakeTraining(Distillation& distillation, Index layers) {
  if (!message_.has_training()) return absl::OkStatus();
  const v1::RunCheckpoint::Training& training = message_.training();
  const absl::Status whole = CheckTraining(distillation, layers);
  if (absl::IsCancelled(whole)) return whole;
  if (!whole.ok()) {
    Warn("training that was saved", whole);
    return absl::OkStatus();
  }
  for (Index layer = 0; layer < layers; ++layer) {
    const std::vector<absl::Span<float>> values = distillation.Values(layer);
    std::vector<float> read(CountOfValues(values));
    ATTNPRUNE_RETURN_IF_ERROR(ReadOwnBlob(job_, training.layers(static_cast<int>(layer)), tail_,
                                          MutableBytesOf(absl::MakeSpan(read))));
    auto next = read.begin();
    for (const absl::Span<float> some : values) {
      std::copy_n(next, some.size(), some.begin());
      next += static_cast<std::ptrdiff_t>(some.size());
    }
  }
  distillation.SetPoint({.steps = training.steps(),
                         .start = training.start(),
                         .best = training.best(),
                         .best_step = training.best_step()});
  return absl::OkStatus();
}

void RunCheckpoint::SaveTraining(Distillation& distillation, Index layers) {
  size_t count = 0;
  for (Index layer = 0; layer < layers; ++layer) count += CountOfValues(distillation.Values(layer));
  const auto bytes = static_cast<int64_t>(count * sizeof(float));
  if (!Due(bytes)) return;
  const auto start = std::chrono::steady_clock::now();
  if (!message_.has_training()) Forget();
  const DistillationPoint& point = distillation.point();
  v1::RunCheckpoint::Training training;
  training.set_steps(point.steps);
  training.set_start(point.start.value_or(0));
  training.set_best(point.best.value_or(0));
  training.set_best_step(point.best_step);
  for (Index layer = 0; layer < layers; ++layer) {
    const std::vector<float> values = Gathered(distillation.Values(layer));
    const absl::StatusOr<std::string> digest = job_.tensors()->Put(BytesOf<float>(values), tail_);
    if (!digest.ok()) {
      for (const std::string& put : training.layers()) job_.tensors()->Remove(put).IgnoreError();
      return job_.Report(digest.status());
    }
    training.add_layers(*digest);
  }
  std::vector<std::string> unused(message_.training().layers().begin(),
                                  message_.training().layers().end());
  std::erase_if(unused, [&training](const std::string& digest) {
    return std::find(training.layers().begin(), training.layers().end(), digest) !=
           training.layers().end();
  });
  *message_.mutable_training() = std::move(training);
  Write(start, bytes, unused);
}

}  // namespace attnprune
