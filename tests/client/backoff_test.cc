#include "client/library/backoff.h"

#include <stop_token>
#include <thread>
#include <vector>

#include "gtest/gtest.h"

namespace attnprune::client {
namespace {

std::vector<absl::Duration> AllWaits(Backoff backoff) {
  std::vector<absl::Duration> waits;
  while (const auto wait = backoff.Next()) waits.push_back(*wait);
  return waits;
}

TEST(Backoff, GrowsUpToTheLongestAndSpendsItsPatienceExactly) {
  const RetryOptions options = {.first = absl::Milliseconds(100),
                                .longest = absl::Milliseconds(400),
                                .factor = 2,
                                .jitter = 0,
                                .patience = absl::Milliseconds(1300)};
  const std::vector<absl::Duration> expected = {absl::Milliseconds(100), absl::Milliseconds(200),
                                                absl::Milliseconds(400), absl::Milliseconds(400),
                                                absl::Milliseconds(200)};
  EXPECT_EQ(AllWaits(Backoff(options, 1)), expected);
}

TEST(Backoff, JittersWithinItsBoundsAndDifferentlyForEachSeed) {
  const RetryOptions options = {.first = absl::Seconds(1),
                                .longest = absl::Seconds(1),
                                .jitter = 0.25,
                                .patience = absl::Seconds(100)};
  const std::vector<absl::Duration> one = AllWaits(Backoff(options, 1));
  for (size_t i = 0; i + 1 < one.size(); ++i) {
    EXPECT_GE(one[i], absl::Milliseconds(750));
    EXPECT_LE(one[i], absl::Milliseconds(1250));
  }
  EXPECT_NE(one, AllWaits(Backoff(options, 2)));
  EXPECT_EQ(one, AllWaits(Backoff(options, 1)));
}

TEST(Backoff, NeverRetriesWithoutPatienceAndStartsAnewAfterASuccess) {
  EXPECT_TRUE(AllWaits(Backoff({.patience = absl::ZeroDuration()}, 1)).empty());
  Backoff backoff({.first = absl::Seconds(1), .jitter = 0, .patience = absl::Seconds(1)}, 1);
  EXPECT_TRUE(backoff.Next().has_value());
  EXPECT_FALSE(backoff.Next().has_value());
  backoff.Succeeded();
  EXPECT_EQ(backoff.Next(), absl::Seconds(1));
}

TEST(Pause, EndsWhenItIsInterruptedAndNeverBeginsAfter) {
  std::stop_source interrupt;
  const std::jthread stops([&interrupt] { interrupt.request_stop(); });
  EXPECT_FALSE(Pause(interrupt.get_token(), absl::Hours(1)));
  EXPECT_FALSE(Pause(interrupt.get_token(), absl::Hours(1)));
  EXPECT_TRUE(Pause({}, absl::Milliseconds(1)));
}

}  // namespace
}  // namespace attnprune::client
