#include "server/execution/retry.h"

#include <gtest/gtest.h>

#include <vector>

namespace attnprune {
namespace {

struct Outcome {
  absl::Status status;
  int tries = 0, waits = 0, failures_told = 0;
};

// Fails with each of `failures` in turn, then succeeds; gives up at wait number `give_up_at`.
Outcome Try(const std::vector<absl::Status>& failures, int give_up_at = 100) {
  Outcome outcome;
  outcome.status = RetryTransient(
      [&] {
        const size_t now = static_cast<size_t>(outcome.tries++);
        return now < failures.size() ? failures[now] : absl::OkStatus();
      },
      [&] { return ++outcome.waits == give_up_at; },
      [&](const absl::Status&) { ++outcome.failures_told; });
  return outcome;
}

TEST(RetryTransient, TriesAgainUntilTheWriteSucceedsAndTellsOnce) {
  const Outcome outcome =
      Try({absl::ResourceExhaustedError("full"), absl::UnavailableError("busy")});
  EXPECT_TRUE(outcome.status.ok());
  EXPECT_EQ(outcome.tries, 3);
  EXPECT_EQ(outcome.failures_told, 1);
}

TEST(RetryTransient, TriesOnceWhereNothingFails) {
  const Outcome outcome = Try({});
  EXPECT_TRUE(outcome.status.ok());
  EXPECT_EQ(outcome.waits, 0);
  EXPECT_EQ(outcome.failures_told, 0);
}

TEST(RetryTransient, GivesUpOnAFailureThatDoesNotPass) {
  const Outcome outcome = Try({absl::AbortedError("lapsed")});
  EXPECT_TRUE(absl::IsAborted(outcome.status));
  EXPECT_EQ(outcome.tries, 1);
  EXPECT_EQ(outcome.failures_told, 1);
}

TEST(RetryTransient, GivesUpWhenItIsTold) {
  const Outcome outcome = Try(std::vector<absl::Status>(9, absl::UnavailableError("busy")), 2);
  EXPECT_TRUE(absl::IsUnavailable(outcome.status));
  EXPECT_EQ(outcome.tries, 2);
}

}  // namespace
}  // namespace attnprune
