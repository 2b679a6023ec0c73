// The rules of parts of running jobs.
#include <utility>

#include "core/base/field_error.h"
#include "core/base/status_macros.h"
#include "server/queue/claimed_rows.h"
#include "server/queue/transactional_job_store.h"

namespace attnprune {
namespace {

// The part, claimed: `own` and `lease_until` are set.
absl::StatusOr<absl::optional<ClaimedPart>> Take(JobRows& rows, const JobRow& row, PartRow part) {
  ++part.fence;
  part.job_fence = row.record.fence;
  ATTNPRUNE_RETURN_IF_ERROR(rows.SavePart(part));
  ClaimedPart claimed;
  ATTNPRUNE_ASSIGN_OR_RETURN(claimed.job, rows.Complete(row));
  claimed.claim = {row.record.id, row.record.fence, part.part, part.fence};
  claimed.results = part.results;
  claimed.states = std::move(part.states);
  return absl::optional<ClaimedPart>(std::move(claimed));
}

}  // namespace

absl::Status TransactionalJobStore::OpenPart(const JobClaim& claim, int part,
                                             absl::Span<const std::string> states) {
  if (part < 0) return MustError("part", "be at least 0", part);
  return Write([&](JobRows& rows, PostCommit& post_commit) -> absl::Status {
    ATTNPRUNE_ASSIGN_OR_RETURN(const JobRow row, FindRunning(rows, claim));
    ATTNPRUNE_ASSIGN_OR_RETURN(const absl::optional<PartRow> there,
                               rows.FindPart(row.number, part));
    if (there.has_value()) return absl::OkStatus();
    post_commit.job_id = claim.id;
    post_commit.part_opened = true;
    PartRow opened;
    opened.job = row.number;
    opened.part = part;
    opened.states.assign(states.begin(), states.end());
    return rows.SavePart(opened);
  });
}

absl::StatusOr<absl::optional<ClaimedPart>> TransactionalJobStore::ClaimPart(absl::Duration lease) {
  using Claimed = absl::optional<ClaimedPart>;
  return Write([&](JobRows& rows, PostCommit&) -> absl::StatusOr<Claimed> {
    ATTNPRUNE_ASSIGN_OR_RETURN(absl::optional<PartRow> part, rows.FindNextPart());
    if (!part.has_value()) return Claimed();
    ATTNPRUNE_ASSIGN_OR_RETURN(const JobRow row, rows.ReadRow(part->job));
    part->own = false;
    part->lease_until = rows.Now() + lease;
    return Take(rows, row, *std::move(part));
  });
}

absl::StatusOr<absl::optional<ClaimedPart>> TransactionalJobStore::ClaimOwnPart(
    const JobClaim& job) {
  using Claimed = absl::optional<ClaimedPart>;
  return Write([&](JobRows& rows, PostCommit&) -> absl::StatusOr<Claimed> {
    ATTNPRUNE_ASSIGN_OR_RETURN(const JobRow row, FindRunning(rows, job));
    ATTNPRUNE_ASSIGN_OR_RETURN(absl::optional<PartRow> part, rows.FindNextOwnPart(row));
    if (!part.has_value()) return Claimed();
    part->own = true;
    part->lease_until = absl::UnixEpoch();
    return Take(rows, row, *std::move(part));
  });
}

absl::Status TransactionalJobStore::FinishPart(const JobClaim& claim) {
  if (claim.whole()) return MustError("claim.part", "be at least 0", claim.part);
  return Write([&](JobRows& rows, PostCommit& post_commit) -> absl::Status {
    ATTNPRUNE_ASSIGN_OR_RETURN(const absl::optional<JobRow> job, rows.FindById(claim.id));
    if (job.has_value() && job->record.fence == claim.fence) {
      ATTNPRUNE_ASSIGN_OR_RETURN(const absl::optional<PartRow> there,
                                 rows.FindPart(job->number, claim.part));
      const bool done_before = there.has_value() && there->done && there->fence == claim.part_fence;
      if (done_before) return absl::OkStatus();
    }
    ATTNPRUNE_ASSIGN_OR_RETURN(const JobRow row, FindRunning(rows, claim));
    ATTNPRUNE_ASSIGN_OR_RETURN(PartRow part, FindClaimedPart(rows, row, claim));
    part.done = true;
    part.states.clear();
    JobEdit edit(&rows, &post_commit, row);
    ATTNPRUNE_RETURN_IF_ERROR(edit.ReplaceCheckpoint(part.part, {}));
    return rows.SavePart(part);
  });
}

absl::StatusOr<std::vector<PartStatus>> TransactionalJobStore::ReadParts(absl::string_view id) {
  return Read([&](JobReader& rows) -> absl::StatusOr<std::vector<PartStatus>> {
    std::vector<PartStatus> all;
    ATTNPRUNE_ASSIGN_OR_RETURN(const absl::optional<JobRow> row, rows.FindById(id));
    if (!row.has_value()) return all;
    ATTNPRUNE_ASSIGN_OR_RETURN(const std::vector<PartRow> parts, rows.ReadParts(row->number));
    all.reserve(parts.size());
    for (const PartRow& part : parts) all.push_back({part.part, part.results, part.done});
    return all;
  });
}

}  // namespace attnprune
