#include "server/queue/scheduler.h"

#include <gtest/gtest.h>

namespace attnprune {
namespace {

const absl::Time kNow = absl::FromUnixSeconds(1'000);

OutstandingJob Queued(std::string id, int64_t number, int priority) {
  OutstandingJob job;
  job.id = std::move(id);
  job.number = number;
  job.priority = priority;
  return job;
}

// A running job whose lease ends `lease` from kNow and that started 100 s ago.
OutstandingJob Running(absl::Duration lease) {
  OutstandingJob job = Queued("a", 1, 0);
  job.state = JobState::kRunning;
  job.fence = 7;
  job.start_time = kNow - absl::Seconds(100);
  job.lease_until = kNow + lease;
  return job;
}

OutstandingJob Cancelled(OutstandingJob job) {
  job.cancel_requested = true;
  return job;
}

OutstandingJob Timeout(absl::Duration timeout, OutstandingJob job) {
  job.timeout = timeout;
  return job;
}

OutstandingJob Lost(int losses, OutstandingJob job) {
  job.losses = losses;
  return job;
}

OutstandingJob BackInQueue(OutstandingJob job) {
  job.state = JobState::kQueued;
  return job;
}

TEST(NextJob, PicksByPriorityThenByAge) {
  struct Case {
    const char* title;
    std::vector<OutstandingJob> jobs;
    const char* next;  // "" for none
  };
  const Case cases[] = {
      {"an empty queue has no next job", {}, ""},
      {"the only job is next", {Queued("a", 5, -3)}, "a"},
      {"of equal priority the oldest is next", {Queued("b", 2, 0), Queued("a", 1, 0)}, "a"},
      {"a higher priority overtakes an older job", {Queued("a", 1, 0), Queued("b", 2, 1)}, "b"},
      {"a negative priority waits for the default", {Queued("a", 1, -1), Queued("b", 2, 0)}, "b"},
      {"running jobs are not picked", {Running(absl::Seconds(5))}, ""},
      {"a requeued job keeps its place by age",
       {Queued("b", 2, 0), BackInQueue(Running(absl::ZeroDuration()))},
       "a"},
  };
  for (const Case& c : cases) {
    const Snapshot snapshot = {kNow, c.jobs};
    const OutstandingJob* next = NextJob(snapshot);
    EXPECT_EQ(next == nullptr ? "" : next->id, c.next) << c.title;
  }
}

OutstandingJob Of(const char* tenant, OutstandingJob job) {
  job.tenant = tenant;
  return job;
}

std::vector<std::string> Ids(const std::vector<const OutstandingJob*>& jobs) {
  std::vector<std::string> ids;
  for (const OutstandingJob* const job : jobs) ids.push_back(job->id);
  return ids;
}

TEST(NextJob, TenantsTakeTurnsWithinAPriority) {
  Snapshot snapshot = {kNow,
                       {Of("a", Queued("a1", 1, 0)), Of("a", Queued("a2", 2, 0)),
                        Of("b", Queued("b1", 3, 0)), Of("a", Queued("a3", 4, 5))}};
  EXPECT_EQ(NextJob(snapshot)->id, "a3") << "a higher priority goes first, whoever's it is";
  snapshot.jobs.pop_back();
  EXPECT_EQ(NextJob(snapshot)->id, "a1") << "of tenants without a turn the oldest job";
  snapshot.turns = {{"a", 1}};
  EXPECT_EQ(NextJob(snapshot)->id, "b1") << "who has had no turn is next";
  snapshot.turns = {{"a", 1}, {"b", 2}};
  EXPECT_EQ(NextJob(snapshot)->id, "a1") << "whose turn was longest ago is next";
}

TEST(NextJob, LeavesTenantsThatHaveEnoughRunning) {
  Snapshot snapshot = {kNow,
                       {Of("a", Running(absl::Seconds(5))), Of("a", Queued("a2", 2, 9)),
                        Of("b", Queued("b1", 3, 0))}};
  EXPECT_EQ(NextJob(snapshot)->id, "a2");
  EXPECT_EQ(NextJob(snapshot, 2)->id, "a2");
  EXPECT_EQ(NextJob(snapshot, 1)->id, "b1");
  snapshot.jobs.pop_back();
  EXPECT_EQ(NextJob(snapshot, 1), nullptr);
}

TEST(ClaimOrder, IsThatInWhichNextJobPicks) {
  Snapshot snapshot = {kNow, {}, {{"a", 7}, {"c", 3}}};
  for (int i = 0; i < 60; ++i) {
    const char* const tenant = std::vector{"a", "b", "c", "d"}[static_cast<size_t>(i * i % 7 % 4)];
    snapshot.jobs.push_back(Of(tenant, Queued(std::to_string(i).c_str(), 100 - i, i % 3 - 1)));
  }
  const std::vector<std::string> order = Ids(ClaimOrder(snapshot));
  ASSERT_EQ(order.size(), 60U);
  int64_t newest = 7;
  for (const std::string& id : order) {
    const OutstandingJob* const next = NextJob(snapshot);
    ASSERT_EQ(next->id, id);
    snapshot.turns[next->tenant] = ++newest;
    std::erase_if(snapshot.jobs, [&](const OutstandingJob& job) { return job.id == id; });
  }
}

TEST(Overdue, SaysWhatTimeAndLostWorkersAskFor) {
  using enum Action::Kind;
  constexpr absl::Duration kAlive = absl::Seconds(5), kOver = absl::Seconds(-1);
  struct Case {
    const char* title;
    OutstandingJob job;
    absl::optional<Action::Kind> action;
    absl::StatusCode code = absl::StatusCode::kOk;
  };
  const auto late = absl::StatusCode::kDeadlineExceeded;
  const auto internal = absl::StatusCode::kInternal;
  const Case cases[] = {
      {"a fresh queued job waits", Queued("a", 1, 0), {}},
      {"a queued job's timeout does not run before its first start",
       Timeout(absl::Seconds(1), Queued("a", 1, 0)),
       {}},
      {"a requeued job fails when its timeout passes in the queue",
       Timeout(absl::Seconds(100), BackInQueue(Running(kOver))), kFail, late},
      {"a live worker is left alone", Running(kAlive), {}},
      {"a lease ends at its last moment", Running(absl::ZeroDuration()), kRequeue},
      {"a job whose lease is over goes back to the queue", Running(kOver), kRequeue},
      {"the last loss that is allowed still requeues", Lost(2, Running(kOver)), kRequeue},
      {"a job that keeps losing its worker fails", Lost(3, Running(kOver)), kFail, internal},
      {"losses do not matter while the worker lives", Lost(9, Running(kAlive)), {}},
      {"a cancelled job's live worker is told to stop", Cancelled(Running(kAlive)), kStopCancelled},
      {"a cancelled job ends when its worker is lost", Cancelled(Running(kOver)), kCancel},
      {"a cancel request counts before the timeout",
       Timeout(absl::Seconds(1), Cancelled(Running(kAlive))), kStopCancelled},
      {"no timeout never times out", Timeout(absl::ZeroDuration(), Running(kAlive)), {}},
      {"a timeout to come is waited for", Timeout(absl::Seconds(101), Running(kAlive)), {}},
      {"a timeout that is reached stops the live worker",
       Timeout(absl::Seconds(100), Running(kAlive)), kStopTimedOut, late},
      {"a timeout with a lost worker fails the job", Timeout(absl::Seconds(99), Running(kOver)),
       kFail, late},
  };
  for (const Case& c : cases) {
    const std::vector<Action> actions = Overdue({kNow, {c.job}}, {.max_losses = 3});
    ASSERT_EQ(actions.size(), c.action.has_value() ? 1u : 0u) << c.title;
    if (actions.empty()) continue;
    EXPECT_EQ(actions[0].kind, c.action) << c.title;
    EXPECT_EQ(actions[0].code, c.code) << c.title;
    EXPECT_EQ(actions[0].claim.id, "a") << c.title;
    EXPECT_EQ(actions[0].claim.fence, c.job.fence) << c.title;
    EXPECT_FALSE(actions[0].message.empty()) << c.title;
  }
}

TEST(Overdue, DecidesOnEachJobByItself) {
  OutstandingJob second = Running(absl::Seconds(-1));
  second.id = std::string("b");
  const std::vector<Action> actions =
      Overdue({kNow, {Queued("q", 1, 0), Cancelled(Running(absl::Seconds(1))), second}}, {});
  ASSERT_EQ(actions.size(), 2u);
  EXPECT_EQ(actions[0].claim.id, "a");
  EXPECT_EQ(actions[1].claim.id, "b");
}

TEST(UntilLeaseEnds, IsOfTheNextThatIsNotOver) {
  const OutstandingJob over = Running(absl::Seconds(-1)), now = Running(absl::ZeroDuration());
  const OutstandingJob soon = Running(absl::Seconds(2)), later = Running(absl::Seconds(5));
  EXPECT_EQ(UntilLeaseEnds({kNow, {later, over, soon, now}}), absl::Seconds(2));
  EXPECT_EQ(UntilLeaseEnds({kNow, {Queued("q", 1, 0), over}}), absl::InfiniteDuration());
}

}  // namespace
}  // namespace attnprune
