#include "server/queue/postgres/postgres_job_store.h"

#include <map>
#include <set>
#include <utility>
#include <vector>

#include "core/base/status_macros.h"
#include "core/io/file.h"
#include "server/queue/checkpoint_files.h"
#include "server/queue/postgres/postgres_job_database.h"
#include "server/queue/transactional_job_store.h"

namespace attnprune {
namespace {

// They may be other servers', too: they are listed before the jobs are read, so that of each the
// claim that wrote it is known.
absl::Status RemoveLapsedCheckpoints(const CheckpointStore& checkpoints, JobDatabase& database) {
  const std::vector<std::string> names = checkpoints.List();
  CheckpointStore::Kept kept;
  ATTNPRUNE_RETURN_IF_ERROR(database.Read([&](JobReader& rows) -> absl::Status {
    ATTNPRUNE_ASSIGN_OR_RETURN(const std::vector<JobRow> jobs, rows.ReadOutstanding());
    for (const JobRow& job : jobs) {
      kept.fences[job.record.id] = job.record.fence;
      kept.names.insert(job.checkpoint.name);
      ATTNPRUNE_ASSIGN_OR_RETURN(const PartCheckpoints of_parts,
                                 rows.ReadPartCheckpoints(job.number));
      for (const auto& [part, ref] : of_parts) kept.names.insert(ref.name);
    }
    return absl::OkStatus();
  }));
  checkpoints.RemoveLapsed(names, kept);
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::unique_ptr<JobStore>> OpenPostgresJobStore(
    const PostgresJobStoreOptions& options) {
  ATTNPRUNE_ASSIGN_OR_RETURN(std::unique_ptr<JobDatabase> database,
                             postgres::OpenPostgresJobDatabase(options));
  std::shared_ptr<const CheckpointStore> checkpoints = options.checkpoints;
  if (checkpoints == nullptr) {
    ATTNPRUNE_RETURN_IF_ERROR(MakeFolder(options.checkpoint_folder));
    ATTNPRUNE_RETURN_IF_ERROR(CheckNoLink(options.checkpoint_folder));
    checkpoints = std::make_shared<CheckpointFiles>(options.checkpoint_folder);
  }
  ATTNPRUNE_RETURN_IF_ERROR(RemoveLapsedCheckpoints(*checkpoints, *database));
  auto store = std::make_unique<TransactionalJobStore>(
      std::move(database), std::move(checkpoints),
      TransactionalJobStoreOptions{.max_queued_jobs = options.max_queued_jobs,
                                   .max_queued_per_tenant = options.max_queued_per_tenant,
                                   .max_running_per_tenant = options.max_running_per_tenant,
                                   .listener = options.listener});
  ATTNPRUNE_RETURN_IF_ERROR(store->TakeBackRunningJobs(options.policy, options.owner));
  return std::unique_ptr<JobStore>(std::move(store));
}

}  // namespace attnprune
