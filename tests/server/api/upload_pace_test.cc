#include "server/api/upload_pace.h"

#include <gtest/gtest.h>

#include "tests/server/queue/test_places.h"

namespace attnprune::api {
namespace {

using attnprune::testing::SteppedClock;

TEST(UploadPace, HoldsATenantToItsRateAndNobodyElse) {
  SteppedClock clock;
  UploadPace pace(1000, &clock);
  EXPECT_EQ(pace.After("a", 1000), absl::ZeroDuration()) << "a second's worth is at once";
  EXPECT_EQ(pace.After("a", 500), absl::Milliseconds(500));
  EXPECT_EQ(pace.After("a", 500), absl::Seconds(1)) << "another stream waits for the first's too";
  EXPECT_EQ(pace.After("b", 1000), absl::ZeroDuration());
  clock.Advance(absl::Seconds(1));
  EXPECT_EQ(pace.After("a", 100), absl::Milliseconds(100));
}

TEST(UploadPace, SavesUpASecondAtMost) {
  SteppedClock clock;
  UploadPace pace(1000, &clock);
  EXPECT_EQ(pace.After("a", 1000), absl::ZeroDuration());
  clock.Advance(absl::Hours(1));
  EXPECT_EQ(pace.After("a", 1200), absl::Milliseconds(200));
}

TEST(UploadPace, IsNoneWithoutALimit) {
  SteppedClock clock;
  UploadPace pace(0, &clock);
  EXPECT_EQ(pace.After("a", int64_t{1} << 60), absl::ZeroDuration());
}

}  // namespace
}  // namespace attnprune::api
