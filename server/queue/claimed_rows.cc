#include "server/queue/claimed_rows.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"

namespace attnprune {
namespace {

absl::Status Lapsed(const JobClaim& claim, absl::string_view why) {
  return absl::AbortedError(
      absl::StrCat("job ", claim.id, ": claim ", claim.fence, " has lapsed: ", why));
}

}  // namespace

absl::StatusOr<PartRow> FindClaimedPart(JobReader& rows, const JobRow& job, const JobClaim& claim) {
  ATTNPRUNE_ASSIGN_OR_RETURN(absl::optional<PartRow> part, rows.FindPart(job.number, claim.part));
  if (!part.has_value()) return Lapsed(claim, absl::StrCat("part ", claim.part, " is gone"));
  if (part->done) return Lapsed(claim, absl::StrCat("part ", claim.part, " is done"));
  if (part->fence != claim.part_fence || part->job_fence != claim.fence) {
    return Lapsed(claim, absl::StrCat("part ", claim.part, " has been given up or claimed anew"));
  }
  return *std::move(part);
}

absl::StatusOr<JobRow> FindClaimed(JobReader& rows, const JobClaim& claim) {
  ATTNPRUNE_ASSIGN_OR_RETURN(absl::optional<JobRow> row, rows.FindById(claim.id));
  if (!row.has_value()) return Lapsed(claim, "the job is gone");
  const JobRecord& job = row->record;
  if (job.fence != claim.fence) return Lapsed(claim, absl::StrCat("the fence is at ", job.fence));
  if (IsTerminal(job.state)) return Lapsed(claim, absl::StrCat("the job is ", ToString(job.state)));
  if (claim.whole()) return *std::move(row);
  if (job.state != JobState::kRunning) return Lapsed(claim, "the job is not running");
  ATTNPRUNE_RETURN_IF_ERROR(FindClaimedPart(rows, *row, claim).status());
  return *std::move(row);
}

absl::StatusOr<JobRow> FindRunning(JobReader& rows, const JobClaim& claim) {
  ATTNPRUNE_ASSIGN_OR_RETURN(JobRow row, FindClaimed(rows, claim));
  if (row.record.state != JobState::kRunning) return Lapsed(claim, "the job is not running");
  return row;
}

}  // namespace attnprune
