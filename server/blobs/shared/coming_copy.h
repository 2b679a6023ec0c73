// A copy of a tensor while it is made, and those who read behind the one that makes it.
#ifndef ATTNPRUNE_SERVER_BLOBS_SHARED_COMING_COPY_H_
#define ATTNPRUNE_SERVER_BLOBS_SHARED_COMING_COPY_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "core/base/mutex.h"
#include "core/io/file.h"
#include "server/blobs/blob_store.h"

namespace attnprune {

// What has come can be read at once, but for the last byte, which is given out once all bytes have
// come and have the right digest. A copy that ends otherwise gives out no more. Thread-safe.
class ComingCopy {
 public:
  ComingCopy(std::string sha256, int64_t size) : sha256_(std::move(sha256)), size_(size) {}

  const std::string& sha256() const { return sha256_; }
  int64_t size() const { return size_; }

  // --- For the one that makes it ---

  // True for the first that asks: it is to call Begin, Advance and End, or End alone.
  bool Take();
  // file: what is read. The first `there` bytes of it have come.
  void Begin(File file, int64_t there);
  void Advance(int64_t there);
  // OK: the copy is whole, and its digest right. Else what all readers are told from now on.
  void End(const absl::Status& status);

  // --- For readers ---

  absl::Status AwaitEnd() const;
  // The file, once AwaitEnd was OK.
  const File& file() const { return file_; }
  // BlobReader's, of one that is called `reader`.
  absl::Status ReadAt(int64_t offset, absl::Span<char> out) const;
  void Await(const BlobReader* reader, int64_t end, BlobReader::Until until,
             const std::function<void()>& then) const;
  // The functions that it passed to Await are not called any more.
  void Forget(const BlobReader* reader) const;

 private:
  struct Waiter {
    const BlobReader* reader;
    int64_t end;  // all of the copy: size_
    std::function<void()> then;
  };

  bool HasLocked(int64_t end) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return ended_ || (end < size_ && end <= there_);
  }
  void WakeLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const std::string sha256_;
  const int64_t size_;
  File file_;  // as it is from Begin on; not read before a byte has come

  mutable Mutex mutex_;
  mutable CondVar changed_;
  bool taken_ ABSL_GUARDED_BY(mutex_) = false;
  bool ended_ ABSL_GUARDED_BY(mutex_) = false;
  absl::Status status_ ABSL_GUARDED_BY(mutex_);
  int64_t there_ ABSL_GUARDED_BY(mutex_) = 0;
  mutable std::vector<Waiter> waiters_ ABSL_GUARDED_BY(mutex_);
};

// Reads behind.
class ComingReader final : public BlobReader {
 public:
  explicit ComingReader(std::shared_ptr<const ComingCopy> copy) : copy_(std::move(copy)) {}
  ~ComingReader() override { copy_->Forget(this); }

  int64_t size() const override { return copy_->size(); }
  absl::Status ReadAt(int64_t offset, absl::Span<char> out) const override {
    return copy_->ReadAt(offset, out);
  }
  void Await(int64_t, int64_t end, Until until, const std::function<void()>& then) const override {
    copy_->Await(this, end, until, then);
  }

 private:
  const std::shared_ptr<const ComingCopy> copy_;
};

}  // namespace attnprune

#endif  // ATTNPRUNE_SERVER_BLOBS_SHARED_COMING_COPY_H_
