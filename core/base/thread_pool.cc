#include "core/base/thread_pool.h"

#include <immintrin.h>

#include <chrono>
#include <system_error>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/field_error.h"

namespace attnprune {
namespace {

// The phases of a step follow each other within microseconds, and waking a thread takes tens of
// them: so who waits looks again for a while before it sleeps. Longer than the pauses between
// phases, shorter than anything that a busy machine would notice.
constexpr std::chrono::microseconds kPatience{50};

// Whether `done` came true within kPatience.
template <typename Predicate>
bool SoonTrue(Predicate done) {
  const auto give_up = std::chrono::steady_clock::now() + kPatience;
  do {
    for (int i = 0; i < 32; ++i) {
      if (done()) return true;
      _mm_pause();
    }
  } while (std::chrono::steady_clock::now() < give_up);
  return false;
}

}  // namespace

absl::Status CheckThreads(int threads) {
  if (threads >= 1 && threads <= kMaxThreads) return absl::OkStatus();
  return MustError("threads", absl::StrCat("be in [1, ", kMaxThreads, "]"), threads);
}

ThreadPool::ThreadPool(int threads) : shares_(static_cast<size_t>(threads)) {
  try {
    for (int i = 1; i < threads; ++i) workers_.emplace_back([this, i] { WorkerLoop(i); });
  } catch (const std::system_error&) {
    // No more threads to be had.
  }
}

ThreadPool::~ThreadPool() {
  MutexLock lock(&mutex_);
  stopping_ = true;
  generation_.fetch_add(1, std::memory_order_release);
  wake_.NotifyAll();
}  // the lock is released before workers_ joins: members are destroyed after this body

void ThreadPool::ParallelFor(std::ptrdiff_t shards, Shard shard) {
  ParallelFor(shards, [&shard](std::ptrdiff_t i, int) { shard(i); });
}

void ThreadPool::ParallelFor(std::ptrdiff_t shards, ShardOfWorker shard) {
  shard_ = &shard;
  const auto shares = static_cast<std::ptrdiff_t>(shares_.size());
  for (std::ptrdiff_t i = 0; i < shares; ++i) {
    Share& share = shares_[static_cast<size_t>(i)];
    share.next.store(i * shards / shares, std::memory_order_relaxed);
    share.end = (i + 1) * shards / shares;
  }
  if (workers_.empty() || shards <= 1) {
    RunShards(0);
  } else {
    {
      MutexLock lock(&mutex_);
      running_.store(static_cast<int>(workers_.size()), std::memory_order_relaxed);
      generation_.fetch_add(1, std::memory_order_release);
      wake_.NotifyAll();
    }
    RunShards(0);
    AwaitWorkers();
  }
  std::exception_ptr thrown;
  {
    MutexLock lock(&mutex_);
    thrown = std::exchange(thrown_, nullptr);
  }
  if (thrown != nullptr) std::rethrow_exception(thrown);
}

void ThreadPool::AwaitWorkers() {
  const auto finished = [this] { return running_.load(std::memory_order_acquire) == 0; };
  if (SoonTrue(finished)) return;
  MutexLock lock(&mutex_);
  finished_.Wait(&mutex_, finished);
}

void ThreadPool::RunShards(int worker) {
  for (size_t i = 0; i < shares_.size(); ++i) {
    Share& share = shares_[(static_cast<size_t>(worker) + i) % shares_.size()];
    // A look first: with many threads, adding to what is used up would cost more than the work.
    while (share.next.load(std::memory_order_relaxed) < share.end) {
      const std::ptrdiff_t shard = share.next.fetch_add(1, std::memory_order_relaxed);
      if (shard < share.end) RunShard(shard, worker);
    }
  }
}

void ThreadPool::RunShard(std::ptrdiff_t shard, int worker) {
  try {
    (*shard_)(shard, worker);
  } catch (...) {
    MutexLock lock(&mutex_);
    if (thrown_ == nullptr) thrown_ = std::current_exception();
  }
}

void ThreadPool::WorkerLoop(int worker) {
  long seen = 0;
  for (;;) {
    const auto called = [this, seen] {
      return generation_.load(std::memory_order_acquire) != seen;
    };
    if (!SoonTrue(called)) {
      MutexLock lock(&mutex_);
      wake_.Wait(&mutex_, called);
    }
    seen = generation_.load(std::memory_order_acquire);
    {
      MutexLock lock(&mutex_);
      if (stopping_) return;
    }
    RunShards(worker);
    if (running_.fetch_sub(1, std::memory_order_acq_rel) > 1) continue;
    MutexLock lock(&mutex_);  // so that it is not lost between a look at running_ and the wait
    finished_.NotifyAll();
  }
}

}  // namespace attnprune
