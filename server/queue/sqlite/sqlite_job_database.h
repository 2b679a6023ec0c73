// A data folder's job database in SQLite, with the watermark beside it.
#ifndef ATTNPRUNE_SERVER_QUEUE_SQLITE_SQLITE_JOB_DATABASE_H_
#define ATTNPRUNE_SERVER_QUEUE_SQLITE_SQLITE_JOB_DATABASE_H_

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "server/queue/job_rows.h"
#include "server/queue/sqlite/sqlite_job_store.h"

namespace attnprune {

// As OpenSqliteJobStore says of the database. Only the folder's lock holder may call it; the
// options' clock must outlive it.
absl::StatusOr<std::unique_ptr<JobDatabase>> OpenSqliteJobDatabase(
    const std::string& folder, const SqliteJobStoreOptions& options);

}  // namespace attnprune

#endif  // ATTNPRUNE_SERVER_QUEUE_SQLITE_SQLITE_JOB_DATABASE_H_
