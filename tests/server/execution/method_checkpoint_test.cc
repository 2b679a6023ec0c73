#include <gtest/gtest.h>

#include "server/execution/method_messages.h"

namespace attnprune {
namespace {

TEST(MethodCheckpoint, ComesBackAsItWasWritten) {
  const auto parsed = ParseMethodCheckpoint(
      FormatMethodCheckpoint({.method_index = 3, .seconds = 1.5, .state = std::string("s\0e", 3)}));
  ASSERT_TRUE(parsed.ok()) << parsed.status();
  EXPECT_EQ(parsed->method_index, 3);
  EXPECT_EQ(parsed->seconds, 1.5);
  EXPECT_EQ(parsed->state, std::string("s\0e", 3));
}

TEST(MethodCheckpoint, OtherBytesAreRefused) {
  const std::string good = FormatMethodCheckpoint({.state = "state"});
  EXPECT_TRUE(absl::IsDataLoss(ParseMethodCheckpoint("").status()));
  EXPECT_TRUE(absl::IsDataLoss(ParseMethodCheckpoint(good.substr(1, 20)).status()));
  EXPECT_TRUE(absl::IsDataLoss(ParseMethodCheckpoint(good.substr(0, good.size() - 1)).status()));
  EXPECT_TRUE(absl::IsDataLoss(ParseMethodCheckpoint(good + "x").status()));
}

}  // namespace
}  // namespace attnprune
