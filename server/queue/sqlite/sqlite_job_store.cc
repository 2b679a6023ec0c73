#include "server/queue/sqlite/sqlite_job_store.h"

#include <set>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "core/io/file.h"
#include "server/queue/checkpoint_files.h"
#include "server/queue/sqlite/sqlite_job_database.h"
#include "server/queue/transactional_job_store.h"

namespace attnprune {
namespace {

absl::StatusOr<std::set<std::string>> CheckpointsInUse(JobDatabase* database) {
  std::set<std::string> names;
  const absl::Status status = database->Read([&](JobReader& rows) -> absl::Status {
    ATTNPRUNE_ASSIGN_OR_RETURN(const std::vector<JobRow> jobs, rows.ReadOutstanding());
    for (const JobRow& job : jobs) {
      names.insert(job.checkpoint.name);
      ATTNPRUNE_ASSIGN_OR_RETURN(const PartCheckpoints of_parts,
                                 rows.ReadPartCheckpoints(job.number));
      for (const auto& [part, ref] : of_parts) names.insert(ref.name);
    }
    return absl::OkStatus();
  });
  if (!status.ok()) return status;
  return names;
}

absl::StatusOr<std::unique_ptr<JobStore>> Open(const FolderLock& lock,
                                               const SqliteJobStoreOptions& options) {
  const std::string folder = lock.folder() + "/checkpoints";
  ATTNPRUNE_RETURN_IF_ERROR(MakeFolder(folder));
  ATTNPRUNE_RETURN_IF_ERROR(CheckNoLink(folder));
  ATTNPRUNE_RETURN_IF_ERROR(SyncFolder(lock.folder()));
  ATTNPRUNE_ASSIGN_OR_RETURN(std::unique_ptr<JobDatabase> database,
                             OpenSqliteJobDatabase(lock.folder(), options));
  auto checkpoints = std::make_shared<CheckpointFiles>(folder);
  ATTNPRUNE_ASSIGN_OR_RETURN(const std::set<std::string> in_use, CheckpointsInUse(database.get()));
  checkpoints->RemoveAllBut(in_use);
  auto store = std::make_unique<TransactionalJobStore>(
      std::move(database), std::move(checkpoints),
      TransactionalJobStoreOptions{.max_queued_jobs = options.max_queued_jobs,
                                   .max_queued_per_tenant = options.max_queued_per_tenant,
                                   .max_running_per_tenant = options.max_running_per_tenant,
                                   .listener = options.listener});
  ATTNPRUNE_RETURN_IF_ERROR(store->TakeBackRunningJobs(options.policy));
  return std::unique_ptr<JobStore>(std::move(store));
}

}  // namespace

absl::StatusOr<std::unique_ptr<JobStore>> OpenSqliteJobStore(const FolderLock& lock,
                                                             const SqliteJobStoreOptions& options) {
  const std::string path = lock.folder() + "/jobs.sqlite3";
  absl::StatusOr<std::unique_ptr<JobStore>> store = Open(lock, options);
  if (store.ok() || absl::StrContains(store.status().message(), path)) return store;
  return absl::Status(store.status().code(), absl::StrCat(path, ": ", store.status().message()));
}

}  // namespace attnprune
