#include "server/queue/sqlite/job_snapshot.h"

#include <map>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "core/io/file.h"
#include "core/io/messages.h"
#include "server/queue/folder_id.h"
#include "server/queue/sqlite/job_schema.h"

namespace attnprune {
namespace {

std::string DatabaseIn(const std::string& folder) { return folder + "/jobs.sqlite3"; }

}  // namespace

absl::StatusOr<std::unique_ptr<JobSnapshot>> JobSnapshot::Take(const std::string& folder) {
  const std::string path = DatabaseIn(folder);
  if (!LookUp(path).has_value() && HasFolderId(folder)) {
    return absl::FailedPreconditionError(
        absl::StrCat(folder,
                     ": its jobs are in a PostgreSQL database: dump that first, then copy "
                     "the folder"));
  }
  if (!LookUp(path).has_value()) {
    return absl::NotFoundError(absl::StrCat(path, ": no such file: not a server's data folder"));
  }
  ATTNPRUNE_ASSIGN_OR_RETURN(sqlite::Database opened, sqlite::Database::OpenForReading(path));
  auto snapshot = std::unique_ptr<JobSnapshot>(new JobSnapshot(std::move(opened)));
  sqlite::Database& database = snapshot->rows_.database();
  ATTNPRUNE_ASSIGN_OR_RETURN(sqlite::Transaction transaction,
                             sqlite::Transaction::Begin(&database, sqlite::TransactionKind::kRead));
  snapshot->transaction_.emplace(std::move(transaction));
  // The first read is what begins it.
  ATTNPRUNE_RETURN_IF_ERROR(Annotate(CheckCurrentVersion(&database), path));
  return snapshot;
}

absl::StatusOr<int64_t> JobSnapshot::CountJobs() {
  return rows_.database().ReadInteger("SELECT count(*) FROM jobs");
}

absl::StatusOr<std::set<std::string>> JobSnapshot::Tensors() { return rows_.ReadTensors(); }

absl::StatusOr<std::vector<CheckpointRef>> JobSnapshot::Checkpoints() {
  std::vector<CheckpointRef> checkpoints;
  ATTNPRUNE_ASSIGN_OR_RETURN(const std::vector<JobRow> jobs, rows_.ReadOutstanding());
  for (const JobRow& job : jobs) {
    if (!job.checkpoint.name.empty()) checkpoints.push_back(job.checkpoint);
    ATTNPRUNE_ASSIGN_OR_RETURN(const PartCheckpoints of_parts,
                               rows_.ReadPartCheckpoints(job.number));
    for (const auto& [part, ref] : of_parts) checkpoints.push_back(ref);
  }
  return checkpoints;
}

absl::Status JobSnapshot::CopyTo(const std::string& folder) {
  return rows_.database().CopyTo(DatabaseIn(folder));
}

absl::Status CheckJobDatabaseIn(const std::string& folder) {
  const std::string path = DatabaseIn(folder);
  {
    ATTNPRUNE_ASSIGN_OR_RETURN(sqlite::Database database, sqlite::Database::OpenForReading(path));
    ATTNPRUNE_RETURN_IF_ERROR(CheckCurrentVersion(&database));
    ATTNPRUNE_RETURN_IF_ERROR(CheckJobDatabase(&database));
  }
  // What a reader makes of a database that keeps a write-ahead log: both are empty of content.
  RemoveFile(path + "-wal");
  RemoveFile(path + "-shm");
  return absl::OkStatus();
}

}  // namespace attnprune
