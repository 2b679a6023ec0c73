#include "core/base/thread_pool.h"

#include <system_error>

#include "absl/strings/str_cat.h"

namespace attnprune {

absl::Status CheckThreads(int threads) {
  if (threads >= 1 && threads <= kMaxThreads) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("threads must be in [1, ", kMaxThreads, "], got ", threads));
}

ThreadPool::ThreadPool(int threads) {
  try {
    for (int i = 1; i < threads; ++i) workers_.emplace_back([this] { WorkerLoop(); });
  } catch (const std::system_error&) {
    // No more threads to be had.
  }
}

ThreadPool::~ThreadPool() {
  MutexLock lock(&mutex_);
  stopping_ = true;
  wake_.NotifyAll();
}  // the lock is released before workers_ joins: members are destroyed after this body

void ThreadPool::ParallelFor(std::ptrdiff_t shards, absl::FunctionRef<void(std::ptrdiff_t)> shard) {
  shard_ = &shard;
  shards_ = shards;
  next_.store(0, std::memory_order_relaxed);
  if (workers_.empty() || shards <= 1) {
    RunShards();
    return;
  }
  {
    MutexLock lock(&mutex_);
    ++generation_;
    running_ = static_cast<int>(workers_.size());
    wake_.NotifyAll();
  }
  RunShards();
  MutexLock lock(&mutex_);
  finished_.Wait(&mutex_, [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return running_ == 0; });
}

void ThreadPool::RunShards() {
  for (std::ptrdiff_t i = next_.fetch_add(1, std::memory_order_relaxed); i < shards_;
       i = next_.fetch_add(1, std::memory_order_relaxed)) {
    (*shard_)(i);
  }
}

void ThreadPool::WorkerLoop() {
  long seen = 0;
  for (;;) {
    {
      MutexLock lock(&mutex_);
      wake_.Wait(&mutex_, [this, seen]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
        return stopping_ || generation_ != seen;
      });
      if (stopping_) return;
      seen = generation_;
    }
    RunShards();
    MutexLock lock(&mutex_);
    if (--running_ == 0) finished_.NotifyAll();
  }
}

}  // namespace attnprune
