// Threads that wait for files, so that those of the network never do.
#ifndef ATTNPRUNE_SERVER_BLOBS_IO_THREADS_H_
#define ATTNPRUNE_SERVER_BLOBS_IO_THREADS_H_

#include <deque>
#include <functional>
#include <memory>
#include <thread>
#include <vector>

#include "core/base/mutex.h"

namespace attnprune {

// Runs tasks in the order of Post, as many at once as there are threads. Thread-safe. Tasks may
// post. Destroying it runs what has been posted first.
class IoThreads {
 public:
  explicit IoThreads(int threads);  // at least 1
  ~IoThreads();
  IoThreads(const IoThreads&) = delete;
  IoThreads& operator=(const IoThreads&) = delete;

  void Post(std::function<void()> task);

 private:
  void Loop();

  Mutex mutex_;
  CondVar wake_;
  std::deque<std::function<void()>> tasks_ ABSL_GUARDED_BY(mutex_);
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::vector<std::jthread> threads_;
};

// Tasks on IoThreads that run one after the other, in order. Thread-safe. May be destroyed by one
// of its own tasks, or by what that task sets off; tasks not yet begun still run. Lock order: the
// strand's, then that of IoThreads.
class Strand {
 public:
  explicit Strand(IoThreads* threads);  // must outlive the last task

  void Post(std::function<void()> task);

 private:
  struct State {
    Mutex mutex;
    std::deque<std::function<void()>> tasks ABSL_GUARDED_BY(mutex);
    bool scheduled ABSL_GUARDED_BY(mutex) = false;  // RunOne is posted or running
  };
  static void RunOne(IoThreads* threads, const std::shared_ptr<State>& state);

  IoThreads* const threads_;
  const std::shared_ptr<State> state_ = std::make_shared<State>();
};

}  // namespace attnprune

#endif  // ATTNPRUNE_SERVER_BLOBS_IO_THREADS_H_
