#include "client/library/interrupt.h"

#include <utility>

namespace attnprune::client {

void Interrupt::Trigger() {
  const MutexLock lock(&mutex_);
  if (triggered_) return;
  triggered_ = true;
  for (const auto& [id, cancel] : holds_) cancel();
  changed_.NotifyAll();
}

bool Interrupt::triggered() const {
  const MutexLock lock(&mutex_);
  return triggered_;
}

bool Interrupt::Sleep(absl::Duration duration) {
  const MutexLock lock(&mutex_);
  return !changed_.WaitFor(&mutex_, duration,
                           [this]() ABSL_NO_THREAD_SAFETY_ANALYSIS { return triggered_; });
}

Interrupt::Hold::Hold(Interrupt* interrupt, std::function<void()> cancel) : interrupt_(interrupt) {
  const MutexLock lock(&interrupt_->mutex_);
  if (interrupt_->triggered_) cancel();
  id_ = interrupt_->next_id_++;
  interrupt_->holds_.emplace(id_, std::move(cancel));
}

Interrupt::Hold::~Hold() {
  const MutexLock lock(&interrupt_->mutex_);
  interrupt_->holds_.erase(id_);
}

}  // namespace attnprune::client
