// Several servers of one database.
#include <gmock/gmock.h>

#include <set>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "core/base/mutex.h"
#include "server/queue/scheduler.h"
#include "tests/server/queue/postgres/postgres_place.h"

namespace attnprune::testing {
namespace {

constexpr absl::Duration kLimit = absl::Seconds(60);  // for what comes at once

// What a server hears of the others.
class NewsOfOthers final : public JobStoreListener {
 public:
  void OnEvents(const std::string&, absl::Span<const StoredEvent>) override {}
  void OnCancelRequested(const std::string&) override {}
  void OnRemoteChange(const JobChange& job) override {
    {
      const MutexLock lock(&mutex_);
      changes_.push_back(job);
    }
    changed_.NotifyAll();
  }
  // The first change of the job that is so.
  template <typename Predicate>
  bool Await(const std::string& id, Predicate is) {
    const MutexLock lock(&mutex_);
    return changed_.WaitFor(&mutex_, kLimit, [&]() ABSL_NO_THREAD_SAFETY_ANALYSIS {
      for (const JobChange& change : changes_) {
        if (change.job_id == id && is(change)) return true;
      }
      return false;
    });
  }

 private:
  Mutex mutex_;
  CondVar changed_;
  std::vector<JobChange> changes_ ABSL_GUARDED_BY(mutex_);
};

// Each thread of each store claims and ends jobs until there is none; the ids, by thread.
std::vector<std::vector<std::string>> ClaimAll(const std::vector<JobStore*>& stores, int threads) {
  std::vector<std::vector<std::string>> claimed(stores.size() * static_cast<size_t>(threads));
  std::vector<std::thread> running;
  for (size_t i = 0; i < claimed.size(); ++i) {
    running.emplace_back([&ids = claimed[i], store = stores[i % stores.size()]] {
      while (true) {
        const auto job = store->Claim("worker", kTestLease);
        ASSERT_TRUE(job.ok()) << job.status();
        if (!job->has_value()) break;
        ids.push_back((*job)->id);
        ASSERT_TRUE(store->Finish({(*job)->id, (*job)->fence}, JobState::kSucceeded, {}, "").ok());
      }
    });
  }
  for (std::thread& thread : running) thread.join();
  return claimed;
}

TEST(PostgresServers, EveryJobIsClaimedOnceWhoeverAsks) {
  constexpr int kJobs = 200;
  const SharedDatabase database;
  const auto one = database.Open("one"), two = database.Open("two");
  std::set<std::string> made;
  for (int i = 0; i < kJobs; ++i) {
    NewJob job;
    job.tenant = absl::StrCat("tenant", i % 3);
    job.priority = i % 2;
    made.insert((i % 2 == 0 ? one : two)->Create(job)->job.id);
  }
  std::multiset<std::string> claimed;
  for (const auto& ids : ClaimAll({one.get(), two.get()}, 4)) {
    claimed.insert(ids.begin(), ids.end());
  }
  EXPECT_EQ(claimed, std::multiset<std::string>(made.begin(), made.end()));
  EXPECT_EQ(database.Ask("SELECT count(*) FROM attnprune.jobs WHERE attempt = 1 AND fence = 1"
                         " AND next_sequence = 4"),
            absl::StrCat(kJobs));
}

TEST(PostgresServers, MakeOneJobOfOneRequest) {
  const SharedDatabase database;
  const auto one = database.Open("one"), two = database.Open("two");
  for (int round = 0; round < 20; ++round) {
    NewJob job;
    job.request_id = absl::StrCat("request", round);
    std::string ids[4];
    std::vector<std::thread> threads;
    for (int i = 0; i < 4; ++i) {
      threads.emplace_back([&, i] {
        const auto made = (i % 2 == 0 ? one : two)->Create(job);
        ASSERT_TRUE(made.ok()) << made.status();
        ids[i] = made->job.id;
      });
    }
    for (std::thread& thread : threads) thread.join();
    EXPECT_THAT(ids, ::testing::Each(ids[0]));
  }
  EXPECT_EQ(database.Ask("SELECT count(*) FROM attnprune.jobs"), "20");
}

TEST(PostgresServers, NoTwoRunMoreOfATenantsJobsThanMayRun) {
  const SharedDatabase database;
  PostgresJobStoreOptions options = database.OptionsOf("one");
  options.max_running_per_tenant = 3;
  const auto one = SharedDatabase::Open(options);
  options.owner = "two";
  const auto two = SharedDatabase::Open(options);
  for (int i = 0; i < 20; ++i) ASSERT_TRUE(one->Create({}).ok());
  std::vector<std::thread> threads;
  for (int i = 0; i < 8; ++i) {
    threads.emplace_back(
        [&, i] { ASSERT_TRUE((i % 2 == 0 ? one : two)->Claim("worker", kTestLease).ok()); });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ((*one->CountByState())[JobState::kRunning], 3);
}

TEST(PostgresServers, HearOfEachOthersChanges) {
  const SharedDatabase database;
  NewsOfOthers news;
  const auto one = database.Open("one"), two = database.Open("two");
  one->SetListener(&news);
  const std::string id = two->Create({.kind = JobKind::kRun})->job.id;
  EXPECT_TRUE(news.Await(id, [](const auto& job) { return job.state == JobState::kQueued; }));
  const JobRecord job = **two->Claim("worker", kTestLease);
  const JobClaim claim = {id, job.fence};
  EXPECT_TRUE(news.Await(id, [](const auto& change) { return change.fence == 1; }));
  ASSERT_TRUE(two->OpenPart(claim, 0, {}).ok());
  EXPECT_TRUE(news.Await(id, [](const auto& change) { return change.open_part; }));
  ASSERT_TRUE(two->AppendEvents(claim, {{EventKind::kProgress, "p"}}).ok());
  EXPECT_TRUE(news.Await(id, [](const auto& change) { return change.newest_sequence == 3; }));
  ASSERT_TRUE(two->RequestCancel(id).ok());
  EXPECT_TRUE(news.Await(id, [](const auto& change) { return change.cancel_requested; }));
  one->SetListener(nullptr);
}

// Its session is cut off again and again, so that notifications are lost.
TEST(PostgresServers, TakeNoChangeOfARestoredDumpForOneToCome) {
  const SharedDatabase database;
  ASSERT_TRUE(database.Open("one")->Create({}).ok());
  database.Ask("UPDATE attnprune.jobs SET changed = '9000000000000000000'");
  const auto store = database.Open("two");
  EXPECT_EQ(database.Ask("SELECT count(*) FROM attnprune.jobs"
                         " WHERE changed >= pg_snapshot_xmax(pg_current_snapshot())"),
            "0");
}

TEST(PostgresServers, HearOfEveryJobThoughNotificationsAreLost) {
  const SharedDatabase database;
  NewsOfOthers news;
  PostgresJobStoreOptions options = database.OptionsOf("one");
  options.poll_interval = absl::Milliseconds(10);
  const auto one = SharedDatabase::Open(options);
  const auto two = database.Open("two");
  one->SetListener(&news);
  std::vector<std::string> made;
  postgres::Connection administrator = database.Connect();
  for (int i = 0; i < 10; ++i) {
    made.push_back(two->Create({})->job.id);
    EndOtherSessions(administrator);
    made.push_back(two->Create({})->job.id);
  }
  for (const std::string& id : made) {
    EXPECT_TRUE(news.Await(id, [](const auto&) { return true; })) << id;
  }
  one->SetListener(nullptr);
}

TEST(PostgresServers, AJobOfADeadServerGoesOnElsewhereAfterItsLeaseAlone) {
  const SharedDatabase database;
  SteppedClock clock;
  const auto open = [&](const std::string& owner) {
    PostgresJobStoreOptions options = database.OptionsOf(owner);
    options.clock = &clock;
    return SharedDatabase::Open(options);
  };
  auto one = open("one");
  const std::string id = one->Create({})->job.id;
  const JobRecord job = **one->Claim("one", kTestLease);
  const JobClaim claim = {id, job.fence};
  ASSERT_TRUE(one->SaveCheckpoint(claim, "half").ok());

  const auto two = open("two");
  EXPECT_EQ(two->Get(id)->state, JobState::kRunning) << "its server may live";
  EXPECT_TRUE(Overdue(*two->ReadOutstanding(), {}).empty());
  clock.Advance(kTestLease);
  const std::vector<Action> actions = Overdue(*two->ReadOutstanding(), {});
  ASSERT_EQ(actions.size(), 1u);
  ASSERT_TRUE(two->Requeue(actions[0].claim, RequeueCause::kWorkerLost, "").ok());
  const JobRecord again = **two->Claim("two", kTestLease);
  EXPECT_EQ(**two->ReadCheckpoint({id, again.fence}), "half");
  // The first one comes back: all that it writes is refused.
  EXPECT_EQ(one->AppendEvents(claim, {{EventKind::kProgress, "late"}}).status().code(),
            absl::StatusCode::kAborted);
  EXPECT_EQ(one->SaveCheckpoint(claim, "late").code(), absl::StatusCode::kAborted);
  EXPECT_EQ(one->FinishMethod(claim, 0, "late", {}).status().code(), absl::StatusCode::kAborted);
  EXPECT_EQ(one->Finish(claim, JobState::kSucceeded, {}, "").code(), absl::StatusCode::kAborted);
  EXPECT_EQ(**two->ReadCheckpoint({id, again.fence}), "half");
}

TEST(PostgresServers, OneThatComesBackTakesUpItsOwnJobsAtOnce) {
  const SharedDatabase database;
  auto one = database.Open("one");
  const std::string mine = one->Create({})->job.id, others = one->Create({})->job.id;
  ASSERT_EQ((*one->Claim("one", kTestLease))->id, mine);
  ASSERT_EQ((*one->Claim("two", kTestLease))->id, others);
  one.reset();
  one = database.Open("one");
  EXPECT_EQ(one->Get(mine)->state, JobState::kQueued);
  EXPECT_EQ(one->Get(mine)->losses, 1);
  EXPECT_EQ(one->Get(others)->state, JobState::kRunning);
}

TEST(PostgresServers, OneThatOpensLeavesTheCheckpointsOfLiveClaims) {
  const SharedDatabase database;
  const auto one = database.Open("one");
  const std::string id = one->Create({})->job.id;
  const JobRecord job = **one->Claim("one", kTestLease);
  ASSERT_TRUE(one->SaveCheckpoint({id, job.fence}, "bytes").ok());
  const std::string folder = database.folder() / "checkpoints/";
  WriteAll(folder + id + ".1.2.tmp-abc", "being written by that claim");
  WriteAll(folder + id + ".0.1", "of an older claim");
  WriteAll(folder + "gone.1.1", "of a job that is gone");
  const auto two = database.Open("two");
  EXPECT_EQ(**two->ReadCheckpoint({id, job.fence}), "bytes");
  EXPECT_NE(ReadAll(folder + id + ".1.2.tmp-abc"), "");
  EXPECT_EQ(ReadAll(folder + id + ".0.1"), "");
  EXPECT_EQ(ReadAll(folder + "gone.1.1"), "");
}

// A local clock has nanoseconds, the database's microseconds.
TEST(PostgresServers, TimeIsTheDatabases) {
  const SharedDatabase database;
  const auto store = database.Open("one");
  const std::string before =
      database.Ask("SELECT (extract(epoch FROM clock_timestamp()) * 1e6)::bigint");
  for (int i = 0; i < 10; ++i) {
    const absl::Time made = store->Create({})->job.create_time;
    EXPECT_EQ(absl::ToUnixNanos(made) % 1000, 0);
    EXPECT_GE(absl::StrCat(absl::ToUnixMicros(made)), before);
  }
}

}  // namespace
}  // namespace attnprune::testing
