#include <gtest/gtest.h>

#include <set>
#include <utility>

#include "server/queue/job_record.h"

namespace attnprune {
namespace {

using enum JobState;

TEST(JobState, MovesAreThoseOfTheDesignAndNoOthers) {
  const std::set<std::pair<JobState, JobState>> allowed = {
      {kQueued, kRunning},    {kQueued, kFailed},     {kQueued, kCancelled}, {kRunning, kQueued},
      {kRunning, kSucceeded}, {kRunning, kCancelled}, {kRunning, kFailed}};
  for (const JobState from : kJobStates) {
    for (const JobState to : kJobStates) {
      EXPECT_EQ(CanMove(from, to), allowed.count({from, to}) == 1)
          << ToString(from) << " to " << ToString(to);
    }
  }
}

TEST(JobState, IsTerminalWhenNothingLeadsOutOfIt) {
  EXPECT_FALSE(IsTerminal(kQueued));
  EXPECT_FALSE(IsTerminal(kRunning));
  EXPECT_TRUE(IsTerminal(kSucceeded));
  EXPECT_TRUE(IsTerminal(kFailed));
  EXPECT_TRUE(IsTerminal(kCancelled));
}

TEST(JobState, NumbersAreThoseOfTheApiAndComeBack) {
  int64_t number = 1;
  for (const JobState state : kJobStates) {
    EXPECT_EQ(static_cast<int64_t>(state), number);
    EXPECT_EQ(JobStateFromNumber(number++), state);
  }
  EXPECT_FALSE(JobStateFromNumber(0).has_value());
  EXPECT_FALSE(JobStateFromNumber(6).has_value());
  EXPECT_EQ(ToString(kSucceeded), "SUCCEEDED");
}

}  // namespace
}  // namespace attnprune
