// The job store of any number of servers: PostgreSQL, 13 or newer, for jobs, and a folder or a
// place of objects for their checkpoints.
#ifndef ATTNPRUNE_SERVER_QUEUE_POSTGRES_POSTGRES_JOB_STORE_H_
#define ATTNPRUNE_SERVER_QUEUE_POSTGRES_POSTGRES_JOB_STORE_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "core/base/clock.h"
#include "server/queue/checkpoint_files.h"
#include "server/queue/job_store.h"

namespace attnprune {

struct PostgresJobStoreOptions {
  std::string url;            // postgresql://user@host:port/database
  std::string password_file;  // its first line is the password; empty: none
  // Made if it is missing; every server of the database has it. Or `checkpoints` is given.
  std::string checkpoint_folder;
  std::shared_ptr<const CheckpointStore> checkpoints = nullptr;
  // Names the place where the jobs' tensors and checkpoints are; a database is of one.
  std::string tensors;
  // Of the leases, of this server alone. Its running jobs are those of a process before it that is
  // dead, and go back to the queue at once. Others' go back when their lease is over.
  std::string owner;

  int64_t max_queued_jobs = 10'000;  // as TransactionalJobStoreOptions, both below too
  int64_t max_queued_per_tenant = 0;
  int64_t max_running_per_tenant = 0;
  SchedulerPolicy policy = {};           // for the jobs taken back
  JobStoreListener* listener = nullptr;  // as SetListener, told of them too
  const Clock* clock = nullptr;  // nullptr: the database's; must outlive the store. For tests

  int max_connections = 8;  // at least 1; one more waits for what other servers change
  absl::Duration statement_timeout = absl::Seconds(10);  // UNAVAILABLE after that
  // Between two looks for what other servers have changed, where no notification comes.
  absl::Duration poll_interval = absl::Milliseconds(250);
  // From any thread; must not call back.
  std::function<void(absl::string_view text)> on_warning;
};

// Connects, makes or updates the tables (postgres_schema.h), takes back the owner's jobs, and
// removes checkpoints that no claim can still use.
//
// Behind a pooler that lends a connection for a transaction at a time (pgbouncer), all works the
// same but that other servers' changes are found by polling alone.
//
// A call that lost its connection, or met another server's transaction, is tried again where
// nothing of it can have been written; a commit whose answer was lost is asked for, and only where
// the database cannot say is the call UNAVAILABLE with its outcome open. The limits of the queue
// may be passed by as many jobs as are created at the same instant.
//
// INVALID_ARGUMENT naming store or store_password_file; UNAVAILABLE: no server answers;
// UNAUTHENTICATED: user or password; FAILED_PRECONDITION: no such database, a server or an encoding
// that will not do, a newer schema, another place of tensors.
absl::StatusOr<std::unique_ptr<JobStore>> OpenPostgresJobStore(
    const PostgresJobStoreOptions& options);

}  // namespace attnprune

#endif  // ATTNPRUNE_SERVER_QUEUE_POSTGRES_POSTGRES_JOB_STORE_H_
