// One job inside one write transaction: its row is read, changed step by step, and saved once.
#ifndef ATTNPRUNE_SERVER_QUEUE_JOB_EDIT_H_
#define ATTNPRUNE_SERVER_QUEUE_JOB_EDIT_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "server/queue/job_rows.h"

namespace attnprune {

// What is to be done once the transaction has been committed.
struct PostCommit {
  std::string job_id;
  std::vector<StoredEvent> events;              // for the listener
  bool cancel_requested = false;                // for the listener
  bool part_opened = false;                     // for the listener
  std::vector<std::string> unused_checkpoints;  // to be removed
};

// Not thread-safe. The row and its events are in the database after Save() only.
class JobEdit {
 public:
  // Both must outlive it.
  JobEdit(JobRows* rows, PostCommit* post_commit, JobRow row);

  JobRow& row() { return row_; }
  JobRecord& record() { return row_.record; }

  void Start(absl::string_view owner, absl::Duration lease);
  // Ends a job that is to be cancelled.
  absl::Status Requeue(RequeueCause cause, absl::string_view reason);
  // A run that failed or was cancelled, back into the queue.
  void Resume();
  // Drops all checkpoints. FAILED_PRECONDITION unless the state table allows it.
  absl::Status End(JobState state, const Failure& failure, absl::string_view reason);

  // Give the event its sequence and time; return the sequence.
  int64_t AddStateChange(absl::string_view reason);
  int64_t AddEvent(StoredEvent event);
  // Of the job, or of the part; an empty one drops it.
  void ReplaceCheckpoint(CheckpointRef ref);
  absl::Status ReplaceCheckpoint(int part, const CheckpointRef& ref);

  absl::Status Save();

 private:
  JobRows* const rows_;
  PostCommit* const post_commit_;
  const absl::Time now_;
  JobRow row_;
};

}  // namespace attnprune

#endif  // ATTNPRUNE_SERVER_QUEUE_JOB_EDIT_H_
