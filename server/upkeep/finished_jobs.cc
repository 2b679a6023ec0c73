#include "server/upkeep/finished_jobs.h"

#include <vector>

#include "core/base/status_macros.h"
#include "server/queue/job_record.h"

namespace attnprune {
namespace {

constexpr int kAtATime = 100;  // jobs of one write

}  // namespace

absl::StatusOr<int64_t> DeleteFinished(JobStore* jobs, absl::Duration keep,
                                       const DeletedListener& on_deleted,
                                       absl::FunctionRef<bool()> stop) {
  int64_t count = 0;
  while (!stop()) {
    ATTNPRUNE_ASSIGN_OR_RETURN(const std::vector<std::string> deleted,
                               jobs->DeleteEnded(keep, kAtATime));
    if (deleted.empty()) break;
    count += static_cast<int64_t>(deleted.size());
    for (const std::string& id : deleted) {
      if (on_deleted) on_deleted(NameOf(id));
    }
  }
  return count;
}

}  // namespace attnprune
