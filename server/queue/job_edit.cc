#include "server/queue/job_edit.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"

namespace attnprune {

JobEdit::JobEdit(JobRows* rows, PostCommit* post_commit, JobRow row)
    : rows_(rows), post_commit_(post_commit), now_(rows->Now()), row_(std::move(row)) {
  post_commit_->job_id = row_.record.id;
}

void JobEdit::Start(absl::string_view owner, absl::Duration lease) {
  JobRecord& job = record();
  job.state = JobState::kRunning;
  if (!job.start_time.has_value()) job.start_time = now_;
  job.lease_owner = std::string(owner);
  job.lease_until = now_ + lease;
  ++job.fence;
  ++job.attempt;
  AddStateChange("");
}

absl::Status JobEdit::Requeue(RequeueCause cause, absl::string_view reason) {
  JobRecord& job = record();
  if (job.cancel_requested) return End(JobState::kCancelled, {}, reason);
  job.state = JobState::kQueued;
  job.lease_owner.clear();
  job.lease_until = absl::UnixEpoch();
  ++job.fence;
  if (cause == RequeueCause::kWorkerLost) ++job.losses;
  AddStateChange(reason);
  return absl::OkStatus();
}

void JobEdit::Resume() {
  JobRecord& job = record();
  job.state = JobState::kQueued;
  job.start_time.reset();
  job.end_time.reset();
  job.failure = {};
  job.cancel_requested = false;
  job.losses = 0;
  ++job.fence;
  AddStateChange("resumed");
}

absl::Status JobEdit::End(JobState state, const Failure& failure, absl::string_view reason) {
  JobRecord& job = record();
  if (!IsTerminal(state) || !CanMove(job.state, state)) {
    return absl::FailedPreconditionError(absl::StrCat(
        "job ", job.id, ": cannot go from ", ToString(job.state), " to ", ToString(state)));
  }
  job.state = state;
  job.end_time = now_;
  job.failure = failure;
  job.lease_owner.clear();
  job.lease_until = absl::UnixEpoch();
  ReplaceCheckpoint({});
  ATTNPRUNE_ASSIGN_OR_RETURN(const PartCheckpoints there, rows_->ReadPartCheckpoints(row_.number));
  for (const auto& [part, ref] : there) ATTNPRUNE_RETURN_IF_ERROR(ReplaceCheckpoint(part, {}));
  AddEvent({.kind = EventKind::kTerminal,
            .state = state,
            .attempt = job.attempt,
            .payload = std::string(reason)});
  return absl::OkStatus();
}

int64_t JobEdit::AddStateChange(absl::string_view reason) {
  return AddEvent({.kind = EventKind::kStateChange,
                   .state = record().state,
                   .attempt = record().attempt,
                   .payload = std::string(reason)});
}

int64_t JobEdit::AddEvent(StoredEvent event) {
  event.sequence = record().next_sequence++;
  event.time = now_;
  event.origin = record().origin;
  post_commit_->events.push_back(std::move(event));
  return post_commit_->events.back().sequence;
}

void JobEdit::ReplaceCheckpoint(CheckpointRef ref) {
  if (record().has_checkpoint) post_commit_->unused_checkpoints.push_back(row_.checkpoint.name);
  row_.checkpoint = std::move(ref);
  record().has_checkpoint = !row_.checkpoint.name.empty();
}

absl::Status JobEdit::ReplaceCheckpoint(int part, const CheckpointRef& ref) {
  ATTNPRUNE_ASSIGN_OR_RETURN(const PartCheckpoints there, rows_->ReadPartCheckpoints(row_.number));
  const auto old = there.find(part);
  if (old != there.end()) post_commit_->unused_checkpoints.push_back(old->second.name);
  return rows_->SavePartCheckpoint(row_.number, part, ref);
}

absl::Status JobEdit::Save() {
  ATTNPRUNE_RETURN_IF_ERROR(rows_->Save(row_));
  return rows_->AddEvents(row_, post_commit_->events);
}

}  // namespace attnprune
