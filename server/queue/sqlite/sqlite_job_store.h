// The job store of one server: SQLite and a folder, nothing to install or start.
#ifndef ATTNPRUNE_SERVER_QUEUE_SQLITE_SQLITE_JOB_STORE_H_
#define ATTNPRUNE_SERVER_QUEUE_SQLITE_SQLITE_JOB_STORE_H_

#include <cstdint>
#include <functional>
#include <memory>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "core/base/clock.h"
#include "server/queue/folder_lock.h"
#include "server/queue/job_store.h"

namespace attnprune {

// What an opening finds missing of what the folder's watermark tells (watermark.h).
enum class Loss { kRefused, kAccepted };

struct SqliteJobStoreOptions {
  int64_t max_queued_jobs = 10'000;  // Create refuses when this many are queued
  SchedulerPolicy policy = {};       // for jobs that were running when the last server died
  const Clock* clock = nullptr;      // nullptr: the real one; must outlive the store
  // As SetListener, and told of the jobs that the opening itself takes back or ends.
  JobStoreListener* listener = nullptr;
  Loss loss = Loss::kRefused;
  // Told of a loss that was accepted, of a watermark that is missing or cannot be written. From any
  // thread that writes; must not call back.
  std::function<void(absl::string_view text)> on_warning;
};

// Opens, or makes, FOLDER/jobs.sqlite3 and FOLDER/checkpoints/, where FOLDER is the lock's; `lock`
// must outlive the store. All of the database is checked: its structure, its schema, a checksum of
// each row. Jobs that were running go back to the queue at once (their server is dead, the lock
// says so), or fail after too many losses in a row, or end if they were to be cancelled; the
// options' listener is told. Checkpoint files that no job refers to are removed.
//
// DATA_LOSS: the database is damaged (says how), or jobs that were accepted are missing: from it,
// by the watermark FOLDER/jobs.watermark, or with it, while checkpoints or tensors are there (says
// how many and what to do). Nothing is repaired, changed or removed. With Loss::kAccepted the
// second is a warning, and what is there is gone on with; a log without its database is renamed.
// FAILED_PRECONDITION: not an attnprune database, or made by a newer version. PERMISSION_DENIED:
// the folder cannot be written. RESOURCE_EXHAUSTED: the disk is full.
//
// A job that was accepted or has ended is counted on disk before a client is told. Other changes
// are counted for a kill; a power loss forgets to count those of the last half minute.
absl::StatusOr<std::unique_ptr<JobStore>> OpenSqliteJobStore(const FolderLock& lock,
                                                             const SqliteJobStoreOptions& options);

}  // namespace attnprune

#endif  // ATTNPRUNE_SERVER_QUEUE_SQLITE_SQLITE_JOB_STORE_H_
