// A SQLite job store in a scratch folder.
#ifndef ATTNPRUNE_TESTS_SERVER_QUEUE_SQLITE_SQLITE_PLACE_H_
#define ATTNPRUNE_TESTS_SERVER_QUEUE_SQLITE_SQLITE_PLACE_H_

#include <memory>
#include <string>
#include <utility>

#include "server/queue/sqlite/sqlite_job_store.h"
#include "tests/server/queue/test_places.h"

namespace attnprune::testing {

// A lock and the store that needs it.
struct OpenedStore {
  FolderLock lock;
  std::unique_ptr<JobStore> store;  // dies first
};

inline absl::StatusOr<OpenedStore> OpenStore(const std::string& folder,
                                             const SqliteJobStoreOptions& options) {
  absl::StatusOr<FolderLock> lock = FolderLock::Acquire(folder);
  if (!lock.ok()) return lock.status();
  absl::StatusOr<std::unique_ptr<JobStore>> store = OpenSqliteJobStore(*lock, options);
  if (!store.ok()) return store.status();
  return OpenedStore{*std::move(lock), *std::move(store)};
}

}  // namespace attnprune::testing

#endif  // ATTNPRUNE_TESTS_SERVER_QUEUE_SQLITE_SQLITE_PLACE_H_
