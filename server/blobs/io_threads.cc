#include "server/blobs/io_threads.h"

#include <utility>

namespace attnprune {

IoThreads::IoThreads(int threads) {
  for (int i = 0; i < threads; ++i) threads_.emplace_back([this] { Loop(); });
}

IoThreads::~IoThreads() {
  {
    MutexLock lock(&mutex_);
    stopping_ = true;
  }
  wake_.NotifyAll();
  threads_.clear();  // joins
}

void IoThreads::Post(std::function<void()> task) {
  {
    MutexLock lock(&mutex_);
    tasks_.push_back(std::move(task));
  }
  wake_.NotifyAll();
}

void IoThreads::Loop() {
  while (true) {
    std::function<void()> task;
    {
      MutexLock lock(&mutex_);
      wake_.Wait(&mutex_,
                 [this]() ABSL_NO_THREAD_SAFETY_ANALYSIS { return stopping_ || !tasks_.empty(); });
      if (tasks_.empty()) return;
      task = std::move(tasks_.front());
      tasks_.pop_front();
    }
    task();
  }
}

Strand::Strand(IoThreads* threads) : threads_(threads) {}

void Strand::Post(std::function<void()> task) {
  {
    MutexLock lock(&state_->mutex);
    state_->tasks.push_back(std::move(task));
    if (std::exchange(state_->scheduled, true)) return;
  }
  threads_->Post([threads = threads_, state = state_] { RunOne(threads, state); });
}

// One task at a time goes through the threads' queue, so that a busy strand does not starve others.
void Strand::RunOne(IoThreads* threads, const std::shared_ptr<State>& state) {
  std::function<void()> task;
  {
    MutexLock lock(&state->mutex);
    task = std::move(state->tasks.front());
    state->tasks.pop_front();
  }
  task();
  task = nullptr;  // what it holds goes before the next begins
  {
    MutexLock lock(&state->mutex);
    if (state->tasks.empty()) {
      state->scheduled = false;
      return;
    }
  }
  threads->Post([threads, state] { RunOne(threads, state); });
}

}  // namespace attnprune
