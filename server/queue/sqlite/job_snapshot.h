// One state of a data folder's job database, to be copied while a server goes on writing.
#ifndef ATTNPRUNE_SERVER_QUEUE_SQLITE_JOB_SNAPSHOT_H_
#define ATTNPRUNE_SERVER_QUEUE_SQLITE_JOB_SNAPSHOT_H_

#include <cstdint>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/optional.h"
#include "core/base/clock.h"
#include "server/queue/checkpoint_files.h"
#include "server/queue/sqlite/sqlite.h"
#include "server/queue/sqlite/sqlite_job_rows.h"

namespace attnprune {

// Reads only, and holds up no writer; the write-ahead log grows as long as it lives. Not
// thread-safe.
class JobSnapshot {
 public:
  // Of FOLDER/jobs.sqlite3, as it is now. NOT_FOUND: there is none. FAILED_PRECONDITION: another
  // program's, or another version's. DATA_LOSS: damaged.
  static absl::StatusOr<std::unique_ptr<JobSnapshot>> Take(const std::string& folder);
  JobSnapshot(const JobSnapshot&) = delete;
  JobSnapshot& operator=(const JobSnapshot&) = delete;

  absl::StatusOr<int64_t> CountJobs();
  // What its jobs refer to.
  absl::StatusOr<std::set<std::string>> Tensors();
  absl::StatusOr<std::vector<CheckpointRef>> Checkpoints();

  // Makes FOLDER/jobs.sqlite3, which must not be there, for its owner alone.
  absl::Status CopyTo(const std::string& folder);

 private:
  explicit JobSnapshot(sqlite::Database database) : rows_(&clock_, std::move(database)) {}

  const RealClock clock_;
  SqliteJobRows rows_;
  absl::optional<sqlite::Transaction> transaction_;  // dies first
};

// Reads all of FOLDER/jobs.sqlite3: structure, checksums, references. Nothing else may have it
// open.
absl::Status CheckJobDatabaseIn(const std::string& folder);

}  // namespace attnprune

#endif  // ATTNPRUNE_SERVER_QUEUE_SQLITE_JOB_SNAPSHOT_H_
