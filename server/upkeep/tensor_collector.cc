#include "server/upkeep/tensor_collector.h"

#include <set>
#include <string>
#include <unordered_set>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "server/observe/log.h"

namespace attnprune {

absl::StatusOr<Collected> CollectTensors(JobStore* jobs, BlobStore* tensors, absl::Duration grace) {
  // First: whose it was is forgotten before the tensor goes, so that no tenant learns by an old
  // note that another has brought it again.
  ATTNPRUNE_RETURN_IF_ERROR(jobs->ForgetTensors(grace));
  ATTNPRUNE_ASSIGN_OR_RETURN(const std::set<std::string> referenced, jobs->ReferencedDigests());
  return tensors->Collect({referenced.begin(), referenced.end()}, grace);
}

TensorCollector::TensorCollector(const TensorCollectorOptions& options, JobStore* jobs,
                                 BlobStore* tensors)
    : options_(options), jobs_(jobs), tensors_(tensors), thread_([this] { Loop(); }) {}

TensorCollector::~TensorCollector() {
  {
    const MutexLock lock(&mutex_);
    stopping_ = true;
  }
  wake_.NotifyAll();
}

void TensorCollector::Loop() {
  while (true) {
    const absl::StatusOr<Collected> collected = CollectTensors(jobs_, tensors_, options_.grace);
    if (!collected.ok()) {
      Log(LogLevel::kWarning, "tensors.collect", {{"error", collected.status().ToString()}});
    } else if (collected->blobs + collected->uploads > 0) {
      Log(LogLevel::kInfo, "tensors.collect",
          {{"tensors", absl::StrCat(collected->blobs)},
           {"bytes", absl::StrCat(collected->blob_bytes)},
           {"uploads", absl::StrCat(collected->uploads)}});
    }
    const MutexLock lock(&mutex_);
    if (wake_.WaitFor(&mutex_, options_.interval,
                      [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return stopping_; })) {
      return;
    }
  }
}

}  // namespace attnprune
