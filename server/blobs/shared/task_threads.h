// A few threads for what nobody waits for.
#ifndef ATTNPRUNE_SERVER_BLOBS_SHARED_TASK_THREADS_H_
#define ATTNPRUNE_SERVER_BLOBS_SHARED_TASK_THREADS_H_

#include <deque>
#include <functional>
#include <thread>
#include <vector>

#include "core/base/mutex.h"

namespace attnprune {

// Runs tasks in the order in which they came, so many at once. Thread-safe.
class TaskThreads {
 public:
  explicit TaskThreads(int threads);
  // Waits for the tasks under way, and drops the others.
  ~TaskThreads();

  void Post(std::function<void()> task);

 private:
  void Run();

  Mutex mutex_;
  CondVar changed_;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::deque<std::function<void()>> tasks_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::jthread> threads_;  // last: they use all of the above
};

}  // namespace attnprune

#endif  // ATTNPRUNE_SERVER_BLOBS_SHARED_TASK_THREADS_H_
