#include "server/blobs/shared/coming_copy.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"

namespace attnprune {

bool ComingCopy::Take() {
  const MutexLock lock(&mutex_);
  return !std::exchange(taken_, true);
}

void ComingCopy::Begin(File file, int64_t there) {
  const MutexLock lock(&mutex_);
  file_ = std::move(file);
  there_ = there;
  WakeLocked();
}

void ComingCopy::Advance(int64_t there) {
  const MutexLock lock(&mutex_);
  there_ = there;
  WakeLocked();
}

void ComingCopy::End(const absl::Status& status) {
  const MutexLock lock(&mutex_);
  status_ = status;
  ended_ = true;
  WakeLocked();
}

// Under the lock, so that none is called once its reader is forgotten.
void ComingCopy::WakeLocked() {
  changed_.NotifyAll();
  std::erase_if(waiters_, [this](const Waiter& waiter) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (!HasLocked(waiter.end)) return false;
    waiter.then();
    return true;
  });
}

absl::Status ComingCopy::AwaitEnd() const {
  const MutexLock lock(&mutex_);
  changed_.Wait(&mutex_, [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return ended_; });
  return status_;
}

absl::Status ComingCopy::ReadAt(int64_t offset, absl::Span<char> out) const {
  const int64_t end = offset + static_cast<int64_t>(out.size());
  if (end > size_) {
    return absl::DataLossError(
        absl::StrCat("tensor ", sha256_, " ends at ", size_, ", before ", end));
  }
  {
    const MutexLock lock(&mutex_);
    changed_.Wait(&mutex_,
                  [this, end]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return HasLocked(end); });
    ATTNPRUNE_RETURN_IF_ERROR(status_);
  }
  return file_.ReadAt(offset, out);
}

void ComingCopy::Await(const BlobReader* reader, int64_t end, BlobReader::Until until,
                       const std::function<void()>& then) const {
  if (until == BlobReader::Until::kChecked) end = size_;
  {
    const MutexLock lock(&mutex_);
    if (!HasLocked(end)) {
      waiters_.push_back({reader, end, then});
      return;
    }
  }
  then();
}

void ComingCopy::Forget(const BlobReader* reader) const {
  const MutexLock lock(&mutex_);
  std::erase_if(waiters_, [reader](const Waiter& waiter) { return waiter.reader == reader; });
}

}  // namespace attnprune
