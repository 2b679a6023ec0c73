#include "client/library/backoff.h"

#include <algorithm>
#include <condition_variable>
#include <mutex>

namespace attnprune::client {

Backoff::Backoff(const RetryOptions& options, uint64_t seed)
    : options_(options), random_(seed), mean_(options.first), left_(options.patience) {}

absl::optional<absl::Duration> Backoff::Next() {
  if (left_ <= absl::ZeroDuration()) return absl::nullopt;
  std::uniform_real_distribution<double> spread(1 - options_.jitter, 1 + options_.jitter);
  const absl::Duration wait = std::min(mean_ * spread(random_), left_);
  mean_ = std::min(mean_ * options_.factor, options_.longest);
  left_ -= wait;
  return wait;
}

void Backoff::Succeeded() {
  mean_ = options_.first;
  left_ = options_.patience;
}

bool Pause(const std::stop_token& interrupt, absl::Duration duration) {
  std::mutex mutex;
  std::unique_lock lock(mutex);
  std::condition_variable_any never;
  never.wait_for(lock, interrupt, absl::ToChronoNanoseconds(duration), [] { return false; });
  return !interrupt.stop_requested();
}

}  // namespace attnprune::client
