// The job store of one server: SQLite and a folder, nothing to install or start.
#ifndef ATTNPRUNE_SERVER_QUEUE_SQLITE_SQLITE_JOB_STORE_H_
#define ATTNPRUNE_SERVER_QUEUE_SQLITE_SQLITE_JOB_STORE_H_

#include <cstdint>
#include <memory>

#include "absl/status/statusor.h"
#include "core/base/clock.h"
#include "server/queue/folder_lock.h"
#include "server/queue/job_store.h"

namespace attnprune {

struct SqliteJobStoreOptions {
  int64_t max_queued_jobs = 10'000;  // as TransactionalJobStoreOptions, both below too
  int64_t max_queued_per_tenant = 0;
  int64_t max_running_per_tenant = 0;
  SchedulerPolicy policy = {};   // for jobs that were running when the last server died
  const Clock* clock = nullptr;  // nullptr: the real one; must outlive the store
  // As SetListener, and told of the jobs that the opening itself takes back or ends.
  JobStoreListener* listener = nullptr;
};

// Opens, or makes, FOLDER/jobs.sqlite3 and FOLDER/checkpoints/, where FOLDER is the lock's; `lock`
// must outlive the store. All of the database is checked: its structure, its schema, a checksum of
// each row. Jobs that were running go back to the queue at once (their server is dead, the lock
// says so), or fail after too many losses in a row, or end if they were to be cancelled; the
// options' listener is told. Checkpoint files that no job refers to are removed.
//
// DATA_LOSS: the database is damaged (says how; nothing is repaired or removed).
// FAILED_PRECONDITION: not an attnprune database, or made by a newer version. PERMISSION_DENIED:
// the folder cannot be written. RESOURCE_EXHAUSTED: the disk is full.
//
// A damaged byte in the write-ahead log of a server that was killed is taken for the log's end, as
// SQLite does: what was committed after it is lost. Nothing else is lost in silence.
absl::StatusOr<std::unique_ptr<JobStore>> OpenSqliteJobStore(const FolderLock& lock,
                                                             const SqliteJobStoreOptions& options);

}  // namespace attnprune

#endif  // ATTNPRUNE_SERVER_QUEUE_SQLITE_SQLITE_JOB_STORE_H_
