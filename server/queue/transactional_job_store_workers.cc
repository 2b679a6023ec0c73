// The rules of what workers ask for: each write holds only if its claim is the job's latest.
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "server/queue/claimed_rows.h"
#include "server/queue/transactional_job_store.h"

namespace attnprune {
namespace {

constexpr char kServerLost[] = "worker lost: the server was killed";

// The results that are there, of the job or of the part; the part's count grows by one.
absl::StatusOr<int64_t> TakeResultPlace(JobRows& rows, const JobRow& row, const JobClaim& claim) {
  if (claim.whole()) return row.results;
  ATTNPRUNE_ASSIGN_OR_RETURN(PartRow part, FindClaimedPart(rows, row, claim));
  const int64_t there = part.results++;
  ATTNPRUNE_RETURN_IF_ERROR(rows.SavePart(part));
  return there;
}

// Nobody is told: the job's own worker looks for open parts by itself, and the worker that gave it
// back had its reason.
absl::Status ReopenPart(JobRows& rows, const JobRow& row, const JobClaim& claim) {
  ATTNPRUNE_ASSIGN_OR_RETURN(PartRow part, FindClaimedPart(rows, row, claim));
  ++part.fence;
  part.own = false;
  part.lease_until = absl::UnixEpoch();
  return rows.SavePart(part);
}

std::string WhyRequeued(bool has_checkpoint) {
  return absl::StrCat(
      kServerLost, has_checkpoint ? "; goes on from its checkpoint" : "; there is no checkpoint");
}

// An empty one: there is none.
absl::StatusOr<CheckpointRef> CheckpointOf(JobReader& rows, const JobRow& row, int part) {
  ATTNPRUNE_ASSIGN_OR_RETURN(const PartCheckpoints of_parts, rows.ReadPartCheckpoints(row.number));
  const auto found = of_parts.find(part);
  return found == of_parts.end() ? CheckpointRef() : found->second;
}

// A name that no checkpoint of before has: each claim writes one after the other, and the job's
// count grows with all of them.
std::string CheckpointName(const JobClaim& claim, int64_t count) {
  const std::string name = absl::StrCat(claim.id, ".", claim.fence, ".", count);
  return claim.whole() ? name : absl::StrCat(name, ".", claim.part, ".", claim.part_fence);
}

absl::Status ReplaceCheckpointOf(const JobClaim& claim, JobEdit& edit, CheckpointRef ref) {
  if (!claim.whole()) return edit.ReplaceCheckpoint(claim.part, ref);
  edit.ReplaceCheckpoint(std::move(ref));
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<JobRow> TransactionalJobStore::ReadRunning(const JobClaim& claim) {
  return Read([&](JobReader& rows) { return FindRunning(rows, claim); });
}

absl::StatusOr<absl::optional<JobRecord>> TransactionalJobStore::Claim(absl::string_view owner,
                                                                       absl::Duration lease) {
  using Claimed = absl::optional<JobRecord>;
  return Write([&](JobRows& rows, PostCommit& post_commit) -> absl::StatusOr<Claimed> {
    ATTNPRUNE_ASSIGN_OR_RETURN(absl::optional<JobRow> row,
                               rows.FindNextToClaim(max_running_per_tenant_));
    if (!row.has_value()) return Claimed();
    ATTNPRUNE_RETURN_IF_ERROR(rows.TakeTurn(row->record.tenant));
    JobEdit edit(&rows, &post_commit, *std::move(row));
    edit.Start(owner, lease);
    ATTNPRUNE_RETURN_IF_ERROR(edit.Save());
    ATTNPRUNE_ASSIGN_OR_RETURN(JobRecord record, rows.Complete(edit.row()));
    return Claimed(std::move(record));
  });
}

absl::StatusOr<LeaseStatus> TransactionalJobStore::RenewLease(const JobClaim& claim,
                                                              absl::Duration lease) {
  return Write([&](JobRows& rows, PostCommit&) -> absl::StatusOr<LeaseStatus> {
    ATTNPRUNE_ASSIGN_OR_RETURN(JobRow row, FindRunning(rows, claim));
    const absl::Time until = rows.Now() + lease;
    if (claim.whole()) {
      row.record.lease_until = until;
      ATTNPRUNE_RETURN_IF_ERROR(rows.Save(row));
    } else {
      ATTNPRUNE_ASSIGN_OR_RETURN(PartRow part, FindClaimedPart(rows, row, claim));
      part.lease_until = until;
      ATTNPRUNE_RETURN_IF_ERROR(rows.SavePart(part));
    }
    return LeaseStatus{until, row.record.cancel_requested};
  });
}

absl::Status TransactionalJobStore::SaveCheckpoint(const JobClaim& claim, absl::string_view bytes) {
  // Written outside the transaction: it can be large, and others must not wait for it.
  // Its name is new, so the checkpoint that is there stays whole.
  ATTNPRUNE_ASSIGN_OR_RETURN(const JobRow row, ReadRunning(claim));
  const std::string name = CheckpointName(claim, row.checkpoint_count + 1);
  ATTNPRUNE_ASSIGN_OR_RETURN(const CheckpointRef ref, checkpoints_->Write(name, bytes));
  absl::Status status = Write([&](JobRows& rows, PostCommit& post_commit) -> absl::Status {
    ATTNPRUNE_ASSIGN_OR_RETURN(JobRow current, FindRunning(rows, claim));
    JobEdit edit(&rows, &post_commit, std::move(current));
    ATTNPRUNE_RETURN_IF_ERROR(ReplaceCheckpointOf(claim, edit, ref));
    ++edit.row().checkpoint_count;
    edit.record().losses = 0;
    return edit.Save();
  });
  // After an I/O error the row may yet turn out to be on disk; then it needs this one.
  if (!status.ok() && !absl::IsInternal(status)) checkpoints_->Remove(name);
  return status;
}

absl::StatusOr<absl::optional<std::string>> TransactionalJobStore::ReadCheckpoint(
    const JobClaim& claim) {
  const auto find = [&](JobReader& rows) -> absl::StatusOr<CheckpointRef> {
    ATTNPRUNE_ASSIGN_OR_RETURN(JobRow row, FindRunning(rows, claim));
    if (claim.whole()) return std::move(row.checkpoint);
    return CheckpointOf(rows, row, claim.part);
  };
  ATTNPRUNE_ASSIGN_OR_RETURN(const CheckpointRef ref, Read(find));
  if (ref.name.empty()) return absl::optional<std::string>();
  ATTNPRUNE_ASSIGN_OR_RETURN(std::string bytes, checkpoints_->Read(ref));
  return absl::optional<std::string>(std::move(bytes));
}

absl::StatusOr<int64_t> TransactionalJobStore::AppendEvents(const JobClaim& claim,
                                                            absl::Span<const NewEvent> events) {
  for (const NewEvent& event : events) {
    if (!IsProgress(event.kind) && event.kind != EventKind::kWarning) {
      return absl::InvalidArgumentError("only progress and warnings can be appended");
    }
  }
  return Write([&](JobRows& rows, PostCommit& post_commit) -> absl::StatusOr<int64_t> {
    ATTNPRUNE_ASSIGN_OR_RETURN(JobRow row, FindRunning(rows, claim));
    const int64_t first = row.record.next_sequence;
    JobEdit edit(&rows, &post_commit, std::move(row));
    for (const NewEvent& event : events) {
      edit.AddEvent({.kind = event.kind, .payload = event.payload});
    }
    ATTNPRUNE_RETURN_IF_ERROR(edit.Save());
    return first;
  });
}

absl::StatusOr<int64_t> TransactionalJobStore::FinishMethod(
    const JobClaim& claim, int method_index, absl::string_view result,
    absl::Span<const std::string> tensor_digests,
    const absl::optional<std::vector<std::string>>& state) {
  return Write([&](JobRows& rows, PostCommit& post_commit) -> absl::StatusOr<int64_t> {
    ATTNPRUNE_ASSIGN_OR_RETURN(JobRow row, FindRunning(rows, claim));
    ATTNPRUNE_ASSIGN_OR_RETURN(const int64_t there, TakeResultPlace(rows, row, claim));
    if (there != method_index) {
      return absl::FailedPreconditionError(absl::StrCat("job ", claim.id, ": result ", method_index,
                                                        " is not next, ", there, " are there"));
    }
    const int index = static_cast<int>(row.results);
    JobEdit edit(&rows, &post_commit, std::move(row));
    ++edit.row().results;
    edit.record().losses = 0;
    ATTNPRUNE_RETURN_IF_ERROR(ReplaceCheckpointOf(claim, edit, {}));
    const int64_t sequence = edit.AddEvent(
        {.kind = EventKind::kMethodResult, .method_index = index, .payload = std::string(result)});
    ATTNPRUNE_RETURN_IF_ERROR(rows.AddResult(edit.row(), index, result));
    ATTNPRUNE_RETURN_IF_ERROR(
        rows.AddTensors(edit.row(), {tensor_digests.begin(), tensor_digests.end()}));
    if (state.has_value()) {
      ATTNPRUNE_RETURN_IF_ERROR(rows.ReplaceState(edit.row(), {state->begin(), state->end()}));
    }
    ATTNPRUNE_RETURN_IF_ERROR(edit.Save());
    return sequence;
  });
}

absl::Status TransactionalJobStore::Finish(const JobClaim& claim, JobState state,
                                           const Failure& failure, absl::string_view reason) {
  return Write([&](JobRows& rows, PostCommit& post_commit) -> absl::Status {
    if (!claim.whole()) return absl::FailedPreconditionError("a part cannot end its job");
    ATTNPRUNE_ASSIGN_OR_RETURN(JobRow row, FindClaimed(rows, claim));
    JobEdit edit(&rows, &post_commit, std::move(row));
    ATTNPRUNE_RETURN_IF_ERROR(edit.End(state, failure, reason));
    if (state == JobState::kSucceeded && KindOf(claim.id) == JobKind::kRun) {
      ATTNPRUNE_RETURN_IF_ERROR(rows.ReplaceState(edit.row(), {}));
      ATTNPRUNE_RETURN_IF_ERROR(rows.RemoveParts(edit.row().number));
    }
    return edit.Save();
  });
}

absl::Status TransactionalJobStore::Requeue(const JobClaim& claim, RequeueCause cause,
                                            absl::string_view reason) {
  return Write([&](JobRows& rows, PostCommit& post_commit) -> absl::Status {
    ATTNPRUNE_ASSIGN_OR_RETURN(JobRow row, FindRunning(rows, claim));
    if (!claim.whole()) return ReopenPart(rows, row, claim);
    JobEdit edit(&rows, &post_commit, std::move(row));
    ATTNPRUNE_RETURN_IF_ERROR(edit.Requeue(cause, reason));
    return edit.Save();
  });
}

// --- Opening ---

absl::Status TransactionalJobStore::TakeBack(const JobRow& row, absl::Time now,
                                             const SchedulerPolicy& policy) {
  const Action action = OfLostWorker(Outstanding(row), now, policy);
  switch (action.kind) {
    case Action::Kind::kFail:
      return Finish(action.claim, JobState::kFailed, {action.code, action.message}, kServerLost);
    case Action::Kind::kCancel:
      return Finish(action.claim, JobState::kCancelled, {}, action.message);
    default: {
      ATTNPRUNE_ASSIGN_OR_RETURN(const bool has_checkpoint, HasCheckpoint(row));
      return Requeue(action.claim, RequeueCause::kWorkerLost, WhyRequeued(has_checkpoint));
    }
  }
}

absl::StatusOr<bool> TransactionalJobStore::HasCheckpoint(const JobRow& row) {
  if (row.record.has_checkpoint) return true;
  ATTNPRUNE_ASSIGN_OR_RETURN(const PartCheckpoints of_parts, Read([&](JobReader& rows) {
                               return rows.ReadPartCheckpoints(row.number);
                             }));
  return !of_parts.empty();
}

absl::Status TransactionalJobStore::TakeBackRunningJobs(const SchedulerPolicy& policy,
                                                        const absl::optional<std::string>& owner) {
  absl::Time now;
  const auto read = [&](JobReader& rows) {
    now = rows.Now();
    return rows.ReadOutstanding();
  };
  ATTNPRUNE_ASSIGN_OR_RETURN(const std::vector<JobRow> jobs, Read(read));
  for (const JobRow& job : jobs) {
    if (job.record.state != JobState::kRunning) continue;
    if (owner.has_value() && job.record.lease_owner != *owner) continue;
    ATTNPRUNE_RETURN_IF_ERROR(TakeBack(job, now, policy));
  }
  return absl::OkStatus();
}

}  // namespace attnprune
