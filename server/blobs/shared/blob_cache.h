// Copies of tensors whose place is not this machine: files of one folder, of bounded size.
#ifndef ATTNPRUNE_SERVER_BLOBS_SHARED_BLOB_CACHE_H_
#define ATTNPRUNE_SERVER_BLOBS_SHARED_BLOB_CACHE_H_

#include <cstdint>
#include <list>
#include <memory>
#include <string>
#include <unordered_map>
#include <unordered_set>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "core/base/mutex.h"
#include "core/io/file.h"

namespace attnprune {

// FOLDER/<64 digits> is a copy, whose digest was right when it was written. The least recently
// used go first; what is open or mapped stays readable, and then takes more than the bound. A copy
// that is larger than the bound lives for its readers alone. Thread-safe; a copy is fetched once,
// however many want it.
class BlobCache {
 public:
  // Calls its argument with all of a tensor's bytes, in order.
  using Source = absl::FunctionRef<absl::Status(
      absl::FunctionRef<absl::Status(absl::Span<const char>)> visit)>;

  // Makes the folder, removes what is no copy of a tensor, and keeps the rest within the bound.
  static absl::StatusOr<std::unique_ptr<BlobCache>> Open(const std::string& folder,
                                                         int64_t max_bytes);

  // The copy, made from `source` where there is none. DATA_LOSS: what comes is not the tensor;
  // RESOURCE_EXHAUSTED: this machine's disk is full; the source's errors. check: the copy is hashed
  // although it was before, and made anew where it is damaged.
  enum class Check { kOnce, kNow };
  absl::StatusOr<File> Fetch(const std::string& sha256, int64_t size, Check check, Source source);
  void Drop(const std::string& sha256);

  int64_t Bytes() const;

 private:
  struct Copy {
    int64_t size = 0;
    bool checked = false;  // since this process began
    std::list<std::string>::iterator order;
  };

  BlobCache(std::string folder, int64_t max_bytes)
      : folder_(std::move(folder)), max_bytes_(max_bytes) {}

  absl::Status Load();
  std::string PathOf(const std::string& sha256) const { return folder_ + "/" + sha256; }
  absl::StatusOr<File> OpenCopy(const std::string& sha256, int64_t size, Check check);
  absl::StatusOr<File> Make(const std::string& sha256, int64_t size, Source source);
  absl::Status Write(const std::string& sha256, int64_t size, Source source);
  void Insert(const std::string& sha256, const Copy& copy) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void DropLocked(const std::string& sha256) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Evict(int64_t most) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const std::string folder_;
  const int64_t max_bytes_;

  mutable Mutex mutex_;
  CondVar fetched_;
  std::unordered_set<std::string> fetching_ ABSL_GUARDED_BY(mutex_);
  std::unordered_map<std::string, Copy> copies_ ABSL_GUARDED_BY(mutex_);
  std::list<std::string> order_ ABSL_GUARDED_BY(mutex_);  // the most recently used first
  int64_t bytes_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace attnprune

#endif  // ATTNPRUNE_SERVER_BLOBS_SHARED_BLOB_CACHE_H_
