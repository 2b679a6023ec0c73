// How many streams may be open.
#include "server/access/stream_slots.h"

#include <gmock/gmock.h>

#include <string>
#include <thread>
#include <vector>

namespace attnprune::access {
namespace {

using ::testing::HasSubstr;

TEST(StreamSlots, OneTenantLeavesThoseOfOthers) {
  const StreamSlots slots({.in_all = 4, .per_tenant = 2});
  const absl::StatusOr<StreamSlot> a1 = slots.Take("a");
  absl::StatusOr<StreamSlot> a2 = slots.Take("a");
  ASSERT_TRUE(a1.ok() && a2.ok());
  const absl::Status refused = slots.Take("a").status();
  EXPECT_EQ(refused.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(refused.message()), HasSubstr("the tenant has 2 streams open"));
  EXPECT_TRUE(slots.Take("b").ok());
  *a2 = nullptr;
  EXPECT_TRUE(slots.Take("a").ok()) << "the place is free again";
}

TEST(StreamSlots, AllTogetherAreLimitedToo) {
  const StreamSlots slots({.in_all = 2, .per_tenant = 2});
  const absl::StatusOr<StreamSlot> a = slots.Take("a"), b = slots.Take("b");
  const absl::Status refused = slots.Take("c").status();
  EXPECT_EQ(refused.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(refused.message()), HasSubstr("2 streams are open"));
}

TEST(StreamSlots, CopiesOfASlotAreOneAndMayOutliveTheRest) {
  StreamSlot kept;
  {
    const StreamSlots slots({.in_all = 1, .per_tenant = 1});
    StreamSlot slot = *slots.Take("a");
    kept = slot;
    slot = nullptr;
    EXPECT_FALSE(slots.Take("a").ok()) << "a copy is there";
  }
  kept = nullptr;
}

TEST(StreamSlots, CountFromManyThreads) {
  const StreamSlots slots({.in_all = 8, .per_tenant = 1});
  std::vector<std::jthread> threads;
  for (int t = 0; t < 8; ++t) {
    threads.emplace_back([&slots, tenant = std::to_string(t)] {
      for (int i = 0; i < 1000; ++i) ASSERT_TRUE(slots.Take(tenant).ok());
    });
  }
}

}  // namespace
}  // namespace attnprune::access
