// Copies of tensors whose place is not this machine: files of one folder, of bounded size.
#ifndef ATTNPRUNE_SERVER_BLOBS_SHARED_BLOB_CACHE_H_
#define ATTNPRUNE_SERVER_BLOBS_SHARED_BLOB_CACHE_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <list>
#include <memory>
#include <string>
#include <unordered_map>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "core/base/mutex.h"
#include "core/io/file.h"
#include "server/blobs/blob_store.h"
#include "server/blobs/shared/blob_ledger.h"
#include "server/blobs/shared/coming_copy.h"

namespace boost::asio {
class thread_pool;
}

namespace attnprune {

// FOLDER/<64 digits> is a copy, whose digest was right when it was written. The least recently
// used go first, so that copies and those that are being fetched stay within the bound; what is
// open or mapped stays readable, and then takes more. A copy that is larger than the bound lives
// for its readers alone. Thread-safe; an object is fetched once, however many want it, and to its
// end, whoever leaves.
class BlobCache {
 public:
  // Calls its argument with all of the object's bytes, in order, and ends with its first error.
  using Visit = absl::FunctionRef<absl::Status(absl::Span<const char>)>;
  using Source = std::function<absl::Status(Visit visit)>;
  static constexpr int kFetches = 4;  // that readers follow, at once

  // Makes the folder, removes what is no copy of a tensor, and keeps the rest within the bound.
  static absl::StatusOr<std::unique_ptr<BlobCache>> Open(const std::string& folder,
                                                         int64_t max_bytes);
  // Fetches under way end with what comes next of them, CANCELLED.
  ~BlobCache();

  // The copy, made from `source` where there is none, on this thread if no other is at it.
  // DATA_LOSS: what comes is not the tensor; RESOURCE_EXHAUSTED: this machine's disk is full; the
  // source's errors. check: the copy is hashed although it was before, and made anew where it is
  // damaged.
  enum class Check { kOnce, kNow };
  absl::StatusOr<std::shared_ptr<const File>> Fetch(const StoredBlob& blob, Check check,
                                                    const Source& source);
  // A reader of the copy, without a wait for it. Its errors are those of Fetch. One that no reader
  // is left for when a thread comes to it is not fetched.
  std::unique_ptr<BlobReader> Follow(const StoredBlob& blob, Source source);
  // Whether there is a copy that need not be hashed.
  bool Has(const std::string& sha256) const;
  void Drop(const std::string& sha256);

  int64_t Bytes() const;  // of the copies

 private:
  struct Copy {
    int64_t size = 0;
    bool checked = false;  // since this process began
    std::list<std::string>::iterator order;
  };
  struct Joined {
    std::shared_ptr<ComingCopy> copy;
    bool is_new = false;  // nobody is to make it yet
  };

  BlobCache(std::string folder, int64_t max_bytes);

  absl::Status Load();
  std::string PathOf(const std::string& sha256) const { return folder_ + "/" + sha256; }
  absl::StatusOr<File> OpenCopy(const std::string& sha256, int64_t size);
  absl::StatusOr<File> OpenChecked(const StoredBlob& blob);
  Joined Join(const StoredBlob& blob);
  void ForgetUnwanted(const std::string& object);
  void Obtain(ComingCopy& copy, const std::string& object, const Source& source);
  absl::Status CheckCopy(ComingCopy& copy);
  absl::Status Make(ComingCopy& copy, const Source& source);
  absl::Status Write(ComingCopy& copy, const std::string& path, const Source& source);
  absl::Status WithRoom(absl::FunctionRef<absl::Status()> write);
  void Insert(const std::string& sha256, const Copy& copy) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void DropLocked(const std::string& sha256) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Evict(int64_t most) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const std::string folder_;
  const int64_t max_bytes_;
  std::atomic<bool> stopping_{false};
  std::atomic<int64_t> next_file_{0};

  mutable Mutex mutex_;
  // By object, while somebody wants it and it is not whole.
  std::unordered_map<std::string, std::weak_ptr<ComingCopy>> coming_ ABSL_GUARDED_BY(mutex_);
  int64_t coming_bytes_ ABSL_GUARDED_BY(mutex_) = 0;  // of those that are being fetched
  std::unordered_map<std::string, Copy> copies_ ABSL_GUARDED_BY(mutex_);
  std::list<std::string> order_ ABSL_GUARDED_BY(mutex_);  // the most recently used first
  int64_t bytes_ ABSL_GUARDED_BY(mutex_) = 0;
  std::unique_ptr<boost::asio::thread_pool> fetchers_;
};

}  // namespace attnprune

#endif  // ATTNPRUNE_SERVER_BLOBS_SHARED_BLOB_CACHE_H_
