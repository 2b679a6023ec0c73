// A std::mutex that carries clang's thread-safety annotations (checked with -Wthread-safety).
// Abseil's own Mutex is not used: Debian's is not instrumented, so ThreadSanitizer cannot see it.
#ifndef ATTNPRUNE_CORE_BASE_MUTEX_H_
#define ATTNPRUNE_CORE_BASE_MUTEX_H_

#include <algorithm>
#include <condition_variable>
#include <mutex>

#include "absl/base/thread_annotations.h"
#include "absl/time/time.h"

namespace attnprune {

class ABSL_LOCKABLE Mutex {
 public:
  void Lock() ABSL_EXCLUSIVE_LOCK_FUNCTION() { mutex_.lock(); }
  void Unlock() ABSL_UNLOCK_FUNCTION() { mutex_.unlock(); }

 private:
  friend class CondVar;
  std::mutex mutex_;
};

class ABSL_SCOPED_LOCKABLE MutexLock {
 public:
  explicit MutexLock(Mutex* mutex) ABSL_EXCLUSIVE_LOCK_FUNCTION(mutex) : mutex_(mutex) {
    mutex_->Lock();
  }
  ~MutexLock() ABSL_UNLOCK_FUNCTION() { mutex_->Unlock(); }
  MutexLock(const MutexLock&) = delete;
  MutexLock& operator=(const MutexLock&) = delete;

 private:
  Mutex* const mutex_;
};

class CondVar {
 public:
  // Waits until `done()` holds; `mutex` is held whenever `done` is called and on return.
  template <typename Predicate>
  void Wait(Mutex* mutex, Predicate done) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex) {
    std::unique_lock<std::mutex> lock(mutex->mutex_, std::adopt_lock);
    condition_.wait(lock, done);
    lock.release();
  }
  // The same, but for no longer than `timeout` of real time (a day at most). Returns done().
  template <typename Predicate>
  bool WaitFor(Mutex* mutex, absl::Duration timeout, Predicate done)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex) {
    std::unique_lock<std::mutex> lock(mutex->mutex_, std::adopt_lock);
    const absl::Duration bounded = std::clamp(timeout, absl::ZeroDuration(), absl::Hours(24));
    const bool held = condition_.wait_for(lock, absl::ToChronoNanoseconds(bounded), done);
    lock.release();
    return held;
  }
  void NotifyAll() { condition_.notify_all(); }

 private:
  std::condition_variable condition_;
};

}  // namespace attnprune

#endif  // ATTNPRUNE_CORE_BASE_MUTEX_H_
