// The stores that a server's options ask for.
#ifndef ATTNPRUNE_SERVER_SERVER_STORE_H_
#define ATTNPRUNE_SERVER_SERVER_STORE_H_

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "core/base/clock.h"
#include "server/blobs/blob_store.h"
#include "server/objects/object_place.h"
#include "server/queue/folder_lock.h"
#include "server/queue/job_store.h"
#include "server/server.h"

namespace attnprune {

void LogStoreWarning(absl::string_view text);

// Of options.blobs; nullptr: tensors are in the data folder. Errors name blobs.
absl::StatusOr<std::shared_ptr<ObjectPlace>> OpenPlace(const ServerOptions& options);

struct ServerStoreContext {
  const Clock* clock = nullptr;  // of a store that has none of its own
  JobStoreListener* listener = nullptr;
  std::string* owner = nullptr;  // gets the name under which this server is to claim jobs
  std::shared_ptr<ObjectPlace> place = nullptr;  // of tensors and checkpoints; nullptr: the folder
};

// SQLite in the lock's folder or, where options.store says so, PostgreSQL, whose jobs' tensors are
// then in that folder or in the place. FAILED_PRECONDITION if the folder's jobs are in the other
// one, where nobody would see them.
absl::StatusOr<std::unique_ptr<JobStore>> OpenJobStore(const ServerOptions& options,
                                                       const FolderLock& lock,
                                                       const ServerStoreContext& context);

// In the lock's folder or in the place; the job store is open, and its owner known.
absl::StatusOr<std::unique_ptr<BlobStore>> OpenTensors(const ServerOptions& options,
                                                       const FolderLock& lock,
                                                       const ServerStoreContext& context);

}  // namespace attnprune

#endif  // ATTNPRUNE_SERVER_SERVER_STORE_H_
