#include "server/grpc/chunk_budget.h"

#include <utility>

namespace attnprune::rpc {

void ChunkBudget::Acquire(std::function<void()> go) {
  {
    const MutexLock lock(&mutex_);
    if (free_ == 0) {
      waiting_.push_back(std::move(go));
      return;
    }
    --free_;
  }
  go();
}

void ChunkBudget::Release() {
  std::function<void()> next;
  {
    const MutexLock lock(&mutex_);
    if (waiting_.empty()) {
      ++free_;
      return;
    }
    next = std::move(waiting_.front());
    waiting_.pop_front();
  }
  next();
}

}  // namespace attnprune::rpc
