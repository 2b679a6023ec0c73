// The tables of the SQLite job store: making them, opening them, checking all of them.
#ifndef ATTNPRUNE_SERVER_QUEUE_SQLITE_JOB_SCHEMA_H_
#define ATTNPRUNE_SERVER_QUEUE_SQLITE_JOB_SCHEMA_H_

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "server/queue/sqlite/sqlite.h"

namespace attnprune {

// Makes the database whole in one step unless it is there: a crash leaves none or an empty store.
absl::Status MakeJobDatabase(const std::string& path);

// A connection that writes to disk at every commit (WAL, synchronous=FULL).
absl::StatusOr<sqlite::Database> OpenJobDatabase(const std::string& path);

// FAILED_PRECONDITION: another program's, or another version's than this one's.
absl::Status CheckCurrentVersion(sqlite::Database* database);

// Reads all of it; one of an older version that is sound is brought up to date, which that version
// can then no longer read. DATA_LOSS: damaged. FAILED_PRECONDITION: another program's, or a newer
// version's. After an error nothing is changed.
absl::Status CheckJobDatabase(sqlite::Database* database);

}  // namespace attnprune

#endif  // ATTNPRUNE_SERVER_QUEUE_SQLITE_JOB_SCHEMA_H_
