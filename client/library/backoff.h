// How long to wait before a call is tried again: exponential, with jitter, and not for ever.
#ifndef ATTNPRUNE_CLIENT_LIBRARY_BACKOFF_H_
#define ATTNPRUNE_CLIENT_LIBRARY_BACKOFF_H_

#include <cstdint>
#include <random>
#include <stop_token>

#include "absl/time/time.h"
#include "absl/types/optional.h"

namespace attnprune::client {

struct RetryOptions {
  absl::Duration first = absl::Milliseconds(100);  // before the second try, on average
  absl::Duration longest = absl::Seconds(5);       // between two tries
  double factor = 2;                               // from one wait to the next
  double jitter = 0.25;                            // a wait is its mean times 1 +- this
  // Waited in all since the last success; once it is used up, the error is handed on. 0: no retry.
  absl::Duration patience = absl::Seconds(10);
};

// A pure sequence of waits. Not thread-safe.
class Backoff {
 public:
  // seed: of the jitter. The same options and seed give the same waits.
  Backoff(const RetryOptions& options, uint64_t seed);

  // What to wait before the next try; nothing once the patience is used up. Never goes past it.
  absl::optional<absl::Duration> Next();
  void Succeeded();  // the next failure starts anew

 private:
  RetryOptions options_;
  std::mt19937_64 random_;
  absl::Duration mean_;
  absl::Duration left_;
};

// Waits. False as soon as it is interrupted; true if `duration` has gone by.
bool Pause(const std::stop_token& interrupt, absl::Duration duration);

}  // namespace attnprune::client

#endif  // ATTNPRUNE_CLIENT_LIBRARY_BACKOFF_H_
