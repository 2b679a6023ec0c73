#include "server/server_store.h"

#include <unistd.h>

#include <array>

#include "absl/strings/str_cat.h"
#include "core/base/field_error.h"
#include "core/base/status_macros.h"
#include "core/io/file.h"
#include "server/observe/log.h"
#include "server/queue/folder_id.h"
#include "server/queue/postgres/postgres_job_store.h"
#include "server/queue/sqlite/sqlite_job_store.h"

namespace attnprune {
namespace {

constexpr char kSqliteFile[] = "/jobs.sqlite3";

std::string HostName() {
  std::array<char, 256> name{};
  return gethostname(name.data(), name.size() - 1) == 0 ? name.data() : "unknown";
}

absl::Status CheckNoJobsInside(const FolderLock& lock) {
  const std::string path = lock.folder() + kSqliteFile;
  if (!LookUp(path).has_value()) return absl::OkStatus();
  return absl::FailedPreconditionError(
      absl::StrCat("data_dir: must have no jobs of its own where store is a database, got ", path,
                   ": start without --store to go on with them, or on another folder"));
}

// An empty queue would look as if all jobs were lost.
absl::Status CheckNoJobsElsewhere(const FolderLock& lock) {
  // A start that did not get to its database leaves no checkpoints' folder.
  const bool elsewhere = HasFolderId(lock.folder()) && IsFolder(lock.folder() + "/checkpoints");
  if (!elsewhere || LookUp(lock.folder() + kSqliteFile).has_value()) return absl::OkStatus();
  return absl::FailedPreconditionError(
      absl::StrCat("store: must be given: the jobs of ", lock.folder(),
                   " are in a database; remove its folder-id to begin with none"));
}

absl::StatusOr<std::unique_ptr<JobStore>> OpenSqlite(const ServerOptions& options,
                                                     const FolderLock& lock,
                                                     const ServerStoreContext& context) {
  ATTNPRUNE_RETURN_IF_ERROR(CheckNoJobsElsewhere(lock));
  *context.owner = "local";
  return OpenSqliteJobStore(lock, {.max_queued_jobs = options.max_queued_jobs,
                                   .max_queued_per_tenant = options.max_queued_per_tenant,
                                   .max_running_per_tenant = options.max_running_per_tenant,
                                   .policy = {},
                                   .clock = context.clock,
                                   .listener = context.listener,
                                   .loss = options.accept_loss ? Loss::kAccepted : Loss::kRefused,
                                   .on_warning = LogStoreWarning});
}

// While the folder's lock is held no other process claims under the folder's id.
absl::StatusOr<std::unique_ptr<JobStore>> OpenPostgres(const ServerOptions& options,
                                                       const FolderLock& lock,
                                                       const ServerStoreContext& context) {
  ATTNPRUNE_RETURN_IF_ERROR(CheckNoJobsInside(lock));
  ATTNPRUNE_ASSIGN_OR_RETURN(const std::string id, FolderId(lock));
  *context.owner = absl::StrCat(HostName(), "-", id);
  return OpenPostgresJobStore({.url = options.store,
                               .password_file = options.store_password_file,
                               .checkpoint_folder = lock.folder() + "/checkpoints",
                               .tensors = absl::StrCat("folder ", id),
                               .owner = *context.owner,
                               .max_queued_jobs = options.max_queued_jobs,
                               .max_queued_per_tenant = options.max_queued_per_tenant,
                               .max_running_per_tenant = options.max_running_per_tenant,
                               .policy = {},
                               .listener = context.listener,
                               .max_connections = options.store_connections,
                               .on_warning = LogStoreWarning});
}

}  // namespace

void LogStoreWarning(absl::string_view text) {
  Log(LogLevel::kWarning, "store.warning", {{"text", std::string(text)}});
}

absl::StatusOr<std::unique_ptr<JobStore>> OpenJobStore(const ServerOptions& options,
                                                       const FolderLock& lock,
                                                       const ServerStoreContext& context) {
  return options.store.empty() ? OpenSqlite(options, lock, context)
                               : OpenPostgres(options, lock, context);
}

}  // namespace attnprune
