#include "client/library/backoff.h"

#include <algorithm>

namespace attnprune::client {

Backoff::Backoff(const RetryOptions& options, uint64_t seed)
    : options_(options), random_(seed), mean_(options.first), left_(options.patience) {}

absl::optional<absl::Duration> Backoff::Next() {
  if (left_ <= absl::ZeroDuration()) return absl::nullopt;
  const double spread = 1 + options_.jitter * (2 * NextUniform() - 1);
  const absl::Duration wait = std::min(mean_ * spread, left_);
  mean_ = std::min(mean_ * options_.factor, options_.longest);
  left_ -= wait;
  return wait;
}

void Backoff::Succeeded() {
  mean_ = options_.first;
  left_ = options_.patience;
}

// SplitMix64.
double Backoff::NextUniform() {
  uint64_t z = (random_ += 0x9E3779B97F4A7C15);
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EB;
  return static_cast<double>((z ^ (z >> 31)) >> 11) * 0x1p-53;
}

}  // namespace attnprune::client
