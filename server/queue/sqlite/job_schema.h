// The tables of the SQLite job store: making them, opening them, checking all of them.
#ifndef ATTNPRUNE_SERVER_QUEUE_SQLITE_JOB_SCHEMA_H_
#define ATTNPRUNE_SERVER_QUEUE_SQLITE_JOB_SCHEMA_H_

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "server/queue/sqlite/sqlite.h"
#include "server/queue/watermark.h"

namespace attnprune {

// Makes the database whole in one step: a crash leaves none or an empty store.
absl::Status MakeJobDatabase(const std::string& path);

// A connection that writes to disk at every commit (WAL, synchronous=FULL).
absl::StatusOr<sqlite::Database> OpenJobDatabase(const std::string& path);

// Reads all of it and changes nothing. DATA_LOSS: damaged. FAILED_PRECONDITION: another program's,
// or a newer version's.
absl::Status CheckJobDatabase(sqlite::Database* database);

// Brings one of an older version, checked, up to date, which that version can then no longer read.
absl::Status BringUpToDate(sqlite::Database* database);

// What the database has. Of a version that kept no history: history 0, no changes.
absl::StatusOr<Watermark> ReadWatermark(sqlite::Database* database);
// Of the same history, in the caller's transaction; `accepted` is not written but counted.
absl::Status WriteWatermark(sqlite::Database* database, const Watermark& mark);
// A new one, so that no mark of before fits.
absl::Status BeginHistory(sqlite::Database* database, int64_t changes);

}  // namespace attnprune

#endif  // ATTNPRUNE_SERVER_QUEUE_SQLITE_JOB_SCHEMA_H_
