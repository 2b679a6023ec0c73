#include "server/access/stream_slots.h"

#include <map>

#include "absl/strings/str_cat.h"
#include "core/base/mutex.h"

namespace attnprune::access {

class StreamSlots::Counts {
 public:
  explicit Counts(const StreamLimits& limits) : limits_(limits) {}

  absl::Status Add(const std::string& tenant) {
    const MutexLock lock(&mutex_);
    if (open_ >= limits_.in_all) {
      return absl::ResourceExhaustedError(
          absl::StrCat(open_, " streams are open, and the limit is ", limits_.in_all, " (",
                       limits_.in_all_by, ")"));
    }
    int64_t& of_tenant = by_tenant_[tenant];
    if (of_tenant >= limits_.per_tenant) {
      return absl::ResourceExhaustedError(
          absl::StrCat("the tenant has ", of_tenant, " streams open, and the limit is ",
                       limits_.per_tenant, " (", limits_.per_tenant_by, ")"));
    }
    ++open_;
    ++of_tenant;
    return absl::OkStatus();
  }

  void Remove(const std::string& tenant) {
    const MutexLock lock(&mutex_);
    --open_;
    const auto found = by_tenant_.find(tenant);
    if (--found->second == 0) by_tenant_.erase(found);
  }

 private:
  const StreamLimits limits_;
  Mutex mutex_;
  int64_t open_ ABSL_GUARDED_BY(mutex_) = 0;
  std::map<std::string, int64_t> by_tenant_ ABSL_GUARDED_BY(mutex_);
};

StreamSlots::StreamSlots(const StreamLimits& limits) : counts_(std::make_shared<Counts>(limits)) {}

absl::StatusOr<StreamSlot> StreamSlots::Take(const std::string& tenant) const {
  if (absl::Status status = counts_->Add(tenant); !status.ok()) return status;
  // The pointer is never looked at: only its end counts.
  return StreamSlot(counts_.get(),
                    [counts = counts_, tenant](const void*) { counts->Remove(tenant); });
}

}  // namespace attnprune::access
