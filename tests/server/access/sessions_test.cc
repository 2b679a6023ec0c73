// The page's logins.
#include "server/access/sessions.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/server/queue/test_places.h"

namespace attnprune::access {
namespace {

using attnprune::testing::SteppedClock;

TEST(Sessions, StandForATokenUntilTheyEnd) {
  SteppedClock clock;
  Sessions sessions(&clock);
  const std::string id = *sessions.Begin("hash");
  EXPECT_EQ(sessions.TokenHashOf(id), "hash");
  EXPECT_EQ(sessions.TokenHashOf(""), "");
  EXPECT_EQ(sessions.TokenHashOf(id + "x"), "");
  sessions.End(id);
  EXPECT_EQ(sessions.TokenHashOf(id), "");
}

TEST(Sessions, AreOverAfterTheirLifetime) {
  SteppedClock clock;
  Sessions sessions(&clock, {.lifetime = absl::Hours(12)});
  const std::string id = *sessions.Begin("hash");
  clock.Advance(absl::Hours(12) - absl::Seconds(1));
  EXPECT_EQ(sessions.TokenHashOf(id), "hash");
  clock.Advance(absl::Seconds(1));
  EXPECT_EQ(sessions.TokenHashOf(id), "");
  sessions.Begin("hash").IgnoreError();
  EXPECT_EQ(sessions.size(), 1U) << "the former one is gone";
}

TEST(Sessions, AreBoundedByTokenBeforeThoseOfOthersGo) {
  SteppedClock clock;
  Sessions sessions(&clock, {.max_sessions = 5, .max_per_token = 3});
  const std::string other = *sessions.Begin("other");
  std::vector<std::string> ids;
  for (int i = 0; i < 100; ++i) {
    clock.Advance(absl::Seconds(1));
    ids.push_back(*sessions.Begin("greedy"));
  }
  EXPECT_EQ(sessions.size(), 4U);
  EXPECT_EQ(sessions.TokenHashOf(other), "other");
  EXPECT_EQ(sessions.TokenHashOf(ids[96]), "");
  EXPECT_EQ(sessions.TokenHashOf(ids[97]), "greedy");
  for (int i = 0; i < 10; ++i) {
    clock.Advance(absl::Seconds(1));
    sessions.Begin(absl::StrCat("token ", i)).IgnoreError();
  }
  EXPECT_EQ(sessions.size(), 5U);
}

}  // namespace
}  // namespace attnprune::access
