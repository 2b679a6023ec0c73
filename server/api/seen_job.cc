#include "server/api/seen_job.h"

#include "core/base/status_macros.h"

namespace attnprune::api {

absl::StatusOr<JobRecord> GetSeen(const access::Caller& caller, JobStore* jobs,
                                  absl::string_view id) {
  ATTNPRUNE_ASSIGN_OR_RETURN(JobRecord record, jobs->Get(id));
  if (!access::Sees(caller, record.tenant)) return NoSuchJob(id);
  return record;
}

absl::StatusOr<LogExtent> ReadSeenExtent(const access::Caller& caller, JobStore* jobs,
                                         absl::string_view id) {
  ATTNPRUNE_ASSIGN_OR_RETURN(LogExtent extent, jobs->ReadLogExtent(id));
  if (!access::Sees(caller, extent.tenant)) return NoSuchJob(id);
  return extent;
}

absl::Status CheckSeen(const access::Caller& caller, JobStore* jobs, absl::string_view id) {
  if (caller.role == access::Role::kAdmin) return absl::OkStatus();
  return ReadSeenExtent(caller, jobs, id).status();
}

absl::optional<std::string> SeenTenant(const access::Caller& caller) {
  if (caller.role == access::Role::kAdmin) return absl::nullopt;
  return caller.tenant;
}

}  // namespace attnprune::api
