// Runs a fixed number of shards on any number of threads.
//
// Results must depend on the shards only: a shard writes to its own output, and sums over shards
// are taken by the caller in shard order. Then 1, 2 and 4 threads give the same bits.
#ifndef ATTNPRUNE_CORE_BASE_THREAD_POOL_H_
#define ATTNPRUNE_CORE_BASE_THREAD_POOL_H_

#include <atomic>
#include <cstddef>
#include <exception>
#include <thread>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "core/base/mutex.h"

namespace attnprune {

inline constexpr int kMaxThreads = 1024;

// INVALID_ARGUMENT naming `threads` unless 1 <= threads <= kMaxThreads.
absl::Status CheckThreads(int threads);

// A pool owned by one caller at a time: ParallelFor must not be called from two threads at once,
// nor from inside a shard.
class ThreadPool {
 public:
  using Shard = absl::FunctionRef<void(std::ptrdiff_t shard)>;
  using ShardOfWorker = absl::FunctionRef<void(std::ptrdiff_t shard, int worker)>;

  // threads: how many run shards, the caller's own included; at least 1. Where the system gives
  // fewer, the pool makes do with those: the results are the same.
  explicit ThreadPool(int threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int threads() const { return static_cast<int>(workers_.size()) + 1; }

  // Calls shard(0) … shard(shards - 1), each once, and returns when all are done. Every thread
  // begins with a share of its own, consecutive and the same at every call with as many shards, so
  // that what it wrote in one call is in its cache in the next; then it helps the others. Within a
  // share, shards are started in order of index; equal runs of them should be equally heavy. Where
  // shards throw (std::bad_alloc), the others run all the same, and one exception is thrown here.
  void ParallelFor(std::ptrdiff_t shards, Shard shard);
  // The same; `worker`, 0 <= worker < threads(), is the same for no two shards that run at once.
  // For scratch memory only: which worker runs a shard is chance.
  void ParallelFor(std::ptrdiff_t shards, ShardOfWorker shard);

 private:
  // One worker's share of the shards; others help when they have done theirs.
  struct alignas(64) Share {  // a line of the cache each
    std::atomic<std::ptrdiff_t> next{0};
    std::ptrdiff_t end = 0;
  };

  void WorkerLoop(int worker);
  void RunShards(int worker);
  void RunShard(std::ptrdiff_t shard, int worker);
  void AwaitWorkers();

  Mutex mutex_;
  CondVar wake_;
  CondVar finished_;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::exception_ptr thrown_ ABSL_GUARDED_BY(mutex_);  // the first of the current call
  // Written under mutex_; read without it by who has not yet given up hope and gone to sleep.
  std::atomic<long> generation_{0};  // counts ParallelFor calls
  std::atomic<int> running_{0};      // workers still inside the current call

  // Written by ParallelFor before it wakes the workers and constant until they have finished.
  const ShardOfWorker* shard_ = nullptr;

  std::vector<Share> shares_;  // one a thread asked for
  std::vector<std::jthread> workers_;
};

}  // namespace attnprune

#endif  // ATTNPRUNE_CORE_BASE_THREAD_POOL_H_
