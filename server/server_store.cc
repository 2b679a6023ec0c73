#include "server/server_store.h"

#include <unistd.h>

#include <array>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/base/field_error.h"
#include "core/base/status_macros.h"
#include "core/io/file.h"
#include "core/io/messages.h"
#include "server/blobs/posix_blob_store.h"
#include "server/blobs/postgres/postgres_blob_ledger.h"
#include "server/blobs/shared/object_checkpoints.h"
#include "server/blobs/shared/shared_blob_store.h"
#include "server/objects/blobs_url.h"
#include "server/objects/folder_objects.h"
#include "server/objects/s3_objects.h"
#include "server/observe/log.h"
#include "server/queue/folder_id.h"
#include "server/queue/postgres/postgres_job_store.h"
#include "server/queue/sqlite/sqlite_job_store.h"

namespace attnprune {
namespace {

constexpr char kSqliteFile[] = "/jobs.sqlite3";
constexpr char kSharedFolder[] = "a shared folder";  // which machines may mount at other paths
constexpr char kCacheFolder[] = "/cache";            // a shared blob store's

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
  // A start that did not get to its database leaves neither folder.
  const bool used =
      IsFolder(lock.folder() + "/checkpoints") || IsFolder(lock.folder() + kCacheFolder);
  const bool elsewhere = HasFolderId(lock.folder()) && used;
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
  std::string tensors = absl::StrCat("folder ", id);
  std::shared_ptr<const CheckpointStore> checkpoints;
  if (context.place != nullptr) {
    ATTNPRUNE_ASSIGN_OR_RETURN(const BlobsUrl url, ParseBlobsUrl(options.blobs));
    tensors = url.folder.empty() ? url.Name() : kSharedFolder;
    checkpoints = std::make_shared<ObjectCheckpoints>(context.place);
  }
  return OpenPostgresJobStore({.url = options.store,
                               .password_file = options.store_password_file,
                               .checkpoint_folder = lock.folder() + "/checkpoints",
                               .checkpoints = std::move(checkpoints),
                               .tensors = std::move(tensors),
                               .owner = *context.owner,
                               .max_queued_jobs = options.max_queued_jobs,
                               .max_queued_per_tenant = options.max_queued_per_tenant,
                               .max_running_per_tenant = options.max_running_per_tenant,
                               .policy = {},
                               .listener = context.listener,
                               .max_connections = options.store_connections,
                               .on_warning = LogStoreWarning});
}

absl::Status CheckNoTensorsInside(const FolderLock& lock) {
  const absl::StatusOr<std::vector<std::string>> inside =
      ListFolder(lock.folder() + "/tensors/sha256");
  if (!inside.ok() || inside->empty()) return absl::OkStatus();
  return absl::FailedPreconditionError(
      absl::StrCat("data_dir: must have no tensors of its own where blobs are elsewhere, got ",
                   lock.folder(), "/tensors: start without --blobs, or on another folder"));
}

absl::StatusOr<std::unique_ptr<BlobStore>> OpenShared(const ServerOptions& options,
                                                      const FolderLock& lock,
                                                      const ServerStoreContext& context) {
  ATTNPRUNE_RETURN_IF_ERROR(CheckNoTensorsInside(lock));
  ATTNPRUNE_ASSIGN_OR_RETURN(
      std::unique_ptr<BlobLedger> ledger,
      postgres::PostgresBlobLedger::Open(
          {.url = options.store, .password_file = options.store_password_file}));
  return OpenSharedBlobStore({.local_folder = lock.folder(),
                              .name = *context.owner,
                              .limits = {.max_tensor_bytes = options.max_tensor_bytes,
                                         .max_total_bytes = options.max_total_bytes},
                              .cache_bytes = options.blob_cache_bytes},
                             context.place, std::move(ledger));
}

}  // namespace

absl::StatusOr<std::shared_ptr<ObjectPlace>> OpenPlace(const ServerOptions& options) {
  if (options.blobs.empty()) return std::shared_ptr<ObjectPlace>();
  ATTNPRUNE_ASSIGN_OR_RETURN(const BlobsUrl url, ParseBlobsUrl(options.blobs));
  if (url.folder.empty()) return OpenS3Objects(url, options.blobs_credentials_file);
  absl::StatusOr<std::shared_ptr<ObjectPlace>> place = OpenFolderObjects(url.folder);
  if (!place.ok()) return Annotate(place.status(), "blobs");
  return place;
}

void LogStoreWarning(absl::string_view text) {
  Log(LogLevel::kWarning, "store.warning", {{"text", std::string(text)}});
}

absl::StatusOr<std::unique_ptr<JobStore>> OpenJobStore(const ServerOptions& options,
                                                       const FolderLock& lock,
                                                       const ServerStoreContext& context) {
  return options.store.empty() ? OpenSqlite(options, lock, context)
                               : OpenPostgres(options, lock, context);
}

absl::StatusOr<std::unique_ptr<BlobStore>> OpenTensors(const ServerOptions& options,
                                                       const FolderLock& lock,
                                                       const ServerStoreContext& context) {
  if (context.place != nullptr) return OpenShared(options, lock, context);
  return OpenPosixBlobStore({.folder = lock.folder(),
                             .limits = {.max_tensor_bytes = options.max_tensor_bytes,
                                        .max_total_bytes = options.max_total_bytes}},
                            context.clock);
}

}  // namespace attnprune
