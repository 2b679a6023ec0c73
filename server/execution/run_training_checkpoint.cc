// What a run's distillation writes down on its way (run_checkpoint.h).
#include <algorithm>
#include <chrono>
#include <string>
#include <vector>

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

absl::Status RunCheckpoint::ReadTraining(Distillation& distillation, Index layers) {
  const v1::RunCheckpoint::Training& training = message_.training();
  if (training.layers_size() != layers) return absl::DataLossError("not of these layers");
  // All of them before the first is changed.
  std::vector<std::vector<float>> read(static_cast<size_t>(layers));
  for (Index layer = 0; layer < layers; ++layer) {
    std::vector<float>& values = read[static_cast<size_t>(layer)];
    values.resize(CountOfValues(distillation.Values(layer)));
    ATTNPRUNE_RETURN_IF_ERROR(ReadOwnBlob(job_, training.layers(static_cast<int>(layer)), tail_,
                                          MutableBytesOf(absl::MakeSpan(values))));
  }
  for (Index layer = 0; layer < layers; ++layer) {
    auto next = read[static_cast<size_t>(layer)].begin();
    for (const absl::Span<float> values : distillation.Values(layer)) {
      std::copy_n(next, values.size(), values.begin());
      next += static_cast<std::ptrdiff_t>(values.size());
    }
  }
  distillation.SetPoint({.steps = training.steps(),
                         .start = training.start(),
                         .best = training.best(),
                         .best_step = training.best_step()});
  return absl::OkStatus();
}

void RunCheckpoint::TakeTraining(Distillation& distillation, Index layers) {
  if (!message_.has_training()) return;
  const absl::Status status = ReadTraining(distillation, layers);
  if (!status.ok() && !absl::IsCancelled(status)) Warn("training that was saved", status);
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
