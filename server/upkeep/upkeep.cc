#include "server/upkeep/upkeep.h"

#include <algorithm>
#include <cstdint>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "core/base/clock.h"
#include "server/observe/log.h"
#include "server/upkeep/tensor_collector.h"

namespace attnprune {

Upkeep::Upkeep(UpkeepOptions options, JobStore* jobs, BlobStore* tensors)
    : options_(std::move(options)), jobs_(jobs), tensors_(tensors), thread_([this] { Loop(); }) {}

Upkeep::~Upkeep() {
  {
    const MutexLock lock(&mutex_);
    stopping_ = true;
  }
  wake_.NotifyAll();
}

void Upkeep::Loop() {
  do {
    DeleteJobs();
    Collect();
  } while (LookAfterMemory(SteadyNow() + options_.interval));
}

bool Upkeep::LookAfterMemory(absl::Time until) {
  while (true) {
    memory_.GiveBack();
    const absl::Time next = SteadyNow() + options_.memory_interval;
    if (!WaitUntil(std::min(next, until))) return false;
    if (next >= until) return true;
  }
}

bool Upkeep::WaitUntil(absl::Time time) {
  const MutexLock lock(&mutex_);
  return !wake_.WaitFor(&mutex_, time - SteadyNow(), [this] { return stopping_.load(); });
}

void Upkeep::DeleteJobs() {
  if (options_.keep_finished == absl::InfiniteDuration()) return;
  const absl::StatusOr<int64_t> deleted = DeleteFinished(
      jobs_, options_.keep_finished, options_.on_deleted, [this] { return stopping_.load(); });
  if (!deleted.ok()) {
    Log(LogLevel::kWarning, "jobs.expire", {{"error", deleted.status().ToString()}});
  } else if (*deleted > 0) {
    Log(LogLevel::kInfo, "jobs.expire", {{"jobs", absl::StrCat(*deleted)}});
  }
}

void Upkeep::Collect() {
  const absl::StatusOr<Collected> collected =
      CollectTensors(jobs_, tensors_, options_.tensor_grace);
  if (!collected.ok()) {
    Log(LogLevel::kWarning, "tensors.collect", {{"error", collected.status().ToString()}});
  } else if (collected->blobs + collected->uploads > 0) {
    Log(LogLevel::kInfo, "tensors.collect",
        {{"tensors", absl::StrCat(collected->blobs)},
         {"bytes", absl::StrCat(collected->blob_bytes)},
         {"uploads", absl::StrCat(collected->uploads)}});
  }
}

}  // namespace attnprune
