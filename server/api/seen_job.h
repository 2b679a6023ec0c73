// Jobs and runs as they are there for a caller: another tenant's is NOT_FOUND, in the words of one
// that does not exist.
#ifndef ATTNPRUNE_SERVER_API_SEEN_JOB_H_
#define ATTNPRUNE_SERVER_API_SEEN_JOB_H_

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/optional.h"
#include "server/access/caller.h"
#include "server/queue/job_store.h"

namespace attnprune::api {

// Errors: of JobStore::Get and ReadLogExtent.
absl::StatusOr<JobRecord> GetSeen(const access::Caller& caller, JobStore* jobs,
                                  absl::string_view id);
absl::StatusOr<LogExtent> ReadSeenExtent(const access::Caller& caller, JobStore* jobs,
                                         absl::string_view id);
// For what is then written by id: whose a job is never changes.
absl::Status CheckSeen(const access::Caller& caller, JobStore* jobs, absl::string_view id);

// JobFilter::tenant of the caller's lists. Pure.
absl::optional<std::string> SeenTenant(const access::Caller& caller);

}  // namespace attnprune::api

#endif  // ATTNPRUNE_SERVER_API_SEEN_JOB_H_
