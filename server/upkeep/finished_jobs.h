// Deletes jobs and runs that ended long ago.
#ifndef ATTNPRUNE_SERVER_UPKEEP_FINISHED_JOBS_H_
#define ATTNPRUNE_SERVER_UPKEEP_FINISHED_JOBS_H_

#include <cstdint>
#include <functional>
#include <string>

#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "server/queue/job_store.h"

namespace attnprune {

// Told of each that is gone, "jobs/x".
using DeletedListener = std::function<void(const std::string& name)>;

// All that ended more than `keep` ago, by the store's time; how many they were. Some at a time, so
// that other writers come in between, until `stop` says so.
absl::StatusOr<int64_t> DeleteFinished(JobStore* jobs, absl::Duration keep,
                                       const DeletedListener& on_deleted,
                                       absl::FunctionRef<bool()> stop);

}  // namespace attnprune

#endif  // ATTNPRUNE_SERVER_UPKEEP_FINISHED_JOBS_H_
