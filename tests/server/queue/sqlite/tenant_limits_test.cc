// How much of the queue and of the workers one tenant may take.
#include <gmock/gmock.h>

#include <string>

#include "server/queue/sqlite/sqlite_job_store.h"
#include "tests/server/queue/sqlite/sqlite_place.h"
#include "tests/server/queue/test_places.h"

namespace attnprune::testing {
namespace {

TEST(TenantLimits, ATenantFillsItsShareOfTheQueueOnly) {
  ScratchFolder folder;
  const auto opened = OpenStore(folder.path(), {.max_queued_jobs = 5, .max_queued_per_tenant = 2});
  ASSERT_TRUE(opened.ok()) << opened.status();
  JobStore& store = *opened->store;
  const auto create = [&store](const char* tenant) {
    NewJob job;
    job.tenant = tenant;
    return store.Create(job).status();
  };
  EXPECT_TRUE(create("a").ok() && create("a").ok());
  const absl::Status refused = create("a");
  EXPECT_EQ(refused.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(refused.message(), "the queue has 2 jobs of the tenant, the limit is 2");
  EXPECT_TRUE(create("b").ok());
  ASSERT_TRUE(store.Claim("worker", absl::Seconds(1)).ok());
  EXPECT_TRUE(create("a").ok()) << "one of its jobs waits no more";
  EXPECT_TRUE(create("b").ok());
  EXPECT_TRUE(create("c").ok());
  EXPECT_FALSE(create("c").ok()) << "the whole queue is full";
}

TEST(TenantLimits, MoreOfATenantsJobsThanMayRunWait) {
  ScratchFolder folder;
  const auto opened = OpenStore(folder.path(), {.max_running_per_tenant = 1});
  ASSERT_TRUE(opened.ok()) << opened.status();
  JobStore& store = *opened->store;
  NewJob of_a, of_b;
  of_a.tenant = "a";
  of_b.tenant = "b";
  const std::string a1 = store.Create(of_a)->job.id, a2 = store.Create(of_a)->job.id;
  const std::string b1 = store.Create(of_b)->job.id;
  const auto claim = [&store] { return *store.Claim("worker", absl::Seconds(1)); };
  const JobRecord first = *claim();
  EXPECT_EQ(first.id, a1);
  EXPECT_EQ(claim()->id, b1);
  EXPECT_FALSE(claim().has_value());
  ASSERT_TRUE(store.Finish({a1, first.fence}, JobState::kSucceeded, {}, "").ok());
  EXPECT_EQ(claim()->id, a2);
}

}  // namespace
}  // namespace attnprune::testing
