// The rules of parts of running jobs.
#include <utility>

#include "core/base/field_error.h"
#include "core/base/status_macros.h"
#include "server/queue/claimed_rows.h"
#include "server/queue/transactional_job_store.h"

namespace attnprune {

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

absl::StatusOr<absl::optional<ClaimedPart>> TransactionalJobStore::ClaimPart(
    absl::string_view id, absl::string_view owner, absl::Duration lease) {
  using Claimed = absl::optional<ClaimedPart>;
  return Write([&](JobRows& rows, PostCommit&) -> absl::StatusOr<Claimed> {
    ATTNPRUNE_ASSIGN_OR_RETURN(absl::optional<PartRow> part, rows.FindNextPart(id));
    if (!part.has_value()) return Claimed();
    ATTNPRUNE_ASSIGN_OR_RETURN(const JobRow row, rows.ReadRow(part->job));
    ++part->fence;
    part->job_fence = row.record.fence;
    part->owner = std::string(owner);
    part->lease_until = rows.Now() + lease;
    ATTNPRUNE_RETURN_IF_ERROR(rows.SavePart(*part));
    ClaimedPart claimed;
    ATTNPRUNE_ASSIGN_OR_RETURN(claimed.job, rows.Complete(row));
    claimed.claim = {row.record.id, row.record.fence, part->part, part->fence};
    claimed.results = part->results;
    claimed.states = std::move(part->states);
    return Claimed(std::move(claimed));
  });
}

absl::Status TransactionalJobStore::FinishPart(const JobClaim& claim) {
  if (claim.whole()) return MustError("claim.part", "be at least 0", claim.part);
  return Write([&](JobRows& rows, PostCommit&) -> absl::Status {
    ATTNPRUNE_ASSIGN_OR_RETURN(const JobRow row, FindRunning(rows, claim));
    ATTNPRUNE_ASSIGN_OR_RETURN(PartRow part, FindClaimedPart(rows, row, claim));
    part.done = true;
    part.owner.clear();
    part.states.clear();
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
