#include "server/api/queue_outlook.h"

#include <google/protobuf/util/time_util.h>

#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "attnprune/v1/prune_service.pb.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/queue/folder_lock.h"
#include "server/queue/sqlite/sqlite_job_store.h"
#include "tests/server/api/backend.h"
#include "tests/server/api/temporary_folder.h"
#include "tests/support/value_or_die.h"

namespace attnprune::api {
namespace {

using ::attnprune::testing::ValueOrDie;
using ::testing::ElementsAre;

const absl::Time kNow = absl::FromUnixSeconds(1'000'000);

std::vector<double> StartsIn(const std::vector<double>& running_left,
                             const std::vector<double>& queued_take, int workers) {
  std::vector<absl::Duration> left, take;
  for (const double seconds : running_left) left.push_back(absl::Seconds(seconds));
  for (const double seconds : queued_take) take.push_back(absl::Seconds(seconds));
  std::vector<double> starts;
  for (const absl::Time start : StartTimes(kNow, left, take, workers)) {
    starts.push_back(absl::ToDoubleSeconds(start - kNow));
  }
  return starts;
}

TEST(StartTimes, AreNowWhereAWorkerIsFree) {
  EXPECT_THAT(StartsIn({}, {}, 1), ElementsAre(0));
  EXPECT_THAT(StartsIn({10}, {5, 5}, 3), ElementsAre(0, 0, 5));
}

TEST(StartTimes, GoByTheFirstWorkerThatIsFree) {
  EXPECT_THAT(StartsIn({10}, {5}, 1), ElementsAre(10, 15));
  EXPECT_THAT(StartsIn({10, 3}, {4, 100, 1}, 2), ElementsAre(3, 7, 10, 11));
}

TEST(StartTimes, AreNowWhereAJobIsPastItsEstimate) {
  EXPECT_THAT(StartsIn({-7}, {5}, 1), ElementsAre(0, 5));
}

TEST(StartTimes, WaitForTheLastOfMoreJobsThanWorkers) {
  EXPECT_THAT(StartsIn({10, 20, 15}, {}, 2), ElementsAre(15));
}

class PassingClock final : public Clock {
 public:
  absl::Time Now() const override { return kNow + absl::Seconds(seconds_.load()); }
  void Pass(int seconds) { seconds_ += seconds; }

 private:
  std::atomic<int> seconds_{0};
};

// Two workers of two threads each. The test plays them, and passes the time.
class QueueOutlookTest : public ::testing::Test {
 protected:
  // Of so many seconds on one thread and so many results.
  std::string AddJob(double seconds, int priority = 0, int methods = 1) {
    v1::Job job;
    job.mutable_estimate()->set_seconds(seconds);
    for (int i = 0; i < methods; ++i) job.add_methods()->set_label(absl::StrCat("m", i));
    return Add({.priority = priority, .spec = job.SerializeAsString()});
  }
  std::string AddRun(double seconds) {
    v1::Run run;
    run.mutable_estimate()->set_seconds(seconds);
    run.set_results_total(4);
    return Add({.spec = run.SerializeAsString(), .kind = JobKind::kRun});
  }
  std::string Add(const NewJob& job) { return ValueOrDie(store_->Create(job)).job.id; }

  JobClaim Claim() {
    const JobRecord job = *ValueOrDie(store_->Claim("test", absl::Hours(1)));
    return {.id = job.id, .fence = job.fence};
  }
  void Tell(const JobClaim& claim, const v1::Progress& progress) {
    const std::vector<NewEvent> events = {{EventKind::kProgress, progress.SerializeAsString()}};
    ValueOrDie(store_->AppendEvents(claim, events));
  }

  // "1 ahead, 2 at work, in 20 s"; "nothing" of a job that is not queued.
  std::string WaitOf(const std::string& id) {
    const auto waiting = ValueOrDie(outlook_.Forecast())->WaitingOf(access::Everyone(), id);
    if (!waiting.has_value()) return "nothing";
    const absl::Time start = absl::FromUnixNanos(
        google::protobuf::util::TimeUtil::TimestampToNanoseconds(waiting->may_start_time()));
    return absl::StrCat(waiting->ahead(), " ahead, ", waiting->running_size(), " at work, in ",
                        absl::ToDoubleSeconds(start - clock_.Now()), " s");
  }

  const TemporaryFolder folder_;
  PassingClock clock_;
  const FolderLock lock_ = ValueOrDie(FolderLock::Acquire(folder_.path()));
  const std::unique_ptr<JobStore> store_ = ValueOrDie(
      OpenSqliteJobStore(lock_, {.max_queued_jobs = 1000, .policy = {}, .clock = &clock_}));
  QueueOutlook outlook_{{.workers = 2, .threads_per_job = 2}, store_.get(), &clock_};
};

TEST_F(QueueOutlookTest, CountsThoseThatStartBeforeByPriorityThenAge) {
  AddJob(40);
  AddJob(60);
  Claim();
  Claim();
  const std::string old = AddJob(10), urgent = AddJob(10, /*priority=*/1), young = AddJob(10);
  EXPECT_EQ(WaitOf(urgent), "0 ahead, 2 at work, in 20 s");
  EXPECT_EQ(WaitOf(old), "1 ahead, 2 at work, in 25 s");
  EXPECT_EQ(WaitOf(young), "2 ahead, 2 at work, in 30 s");
}

TEST_F(QueueOutlookTest, NamesJobsAndRunsAtWorkByTheirAge) {
  const std::string run = AddRun(40), job = AddJob(40);
  Claim();
  Claim();
  const std::string id = AddJob(10);
  EXPECT_THAT(ValueOrDie(outlook_.Forecast())->WaitingOf(access::Everyone(), id)->running(),
              ElementsAre("runs/" + run, "jobs/" + job));
}

// Three at work need three workers: one is another server's.
TEST_F(QueueOutlookTest, CountsWorkersOfOtherServersThatAreAtWork) {
  for (const double seconds : {40, 60, 100}) AddJob(seconds);
  for (int i = 0; i < 3; ++i) Claim();
  const std::string next = AddJob(10), second = AddJob(10);
  EXPECT_EQ(WaitOf(next), "0 ahead, 3 at work, in 20 s");
  EXPECT_EQ(WaitOf(second), "1 ahead, 3 at work, in 25 s");
}

TEST_F(QueueOutlookTest, SaysThatAWorkerIsFree) {
  AddJob(40);
  Claim();
  const std::string next = AddJob(10), second = AddJob(10);
  EXPECT_EQ(WaitOf(next), "0 ahead, 0 at work, in 0 s");
  EXPECT_EQ(WaitOf(second), "1 ahead, 1 at work, in 5 s");
}

TEST_F(QueueOutlookTest, SaysNothingOfJobsThatAreNotQueued) {
  const std::string id = AddJob(40);
  Claim();
  EXPECT_EQ(WaitOf(id), "nothing");
  EXPECT_EQ(WaitOf("none"), "nothing");
}

TEST_F(QueueOutlookTest, CountsTheTimePassedAndExpectsAJobPastItsEstimateToEndNow) {
  AddJob(40);
  AddJob(1000);
  Claim();
  Claim();
  const std::string id = AddJob(10);
  clock_.Pass(15);
  EXPECT_EQ(WaitOf(id), "0 ahead, 2 at work, in 5 s");
  clock_.Pass(15);
  EXPECT_EQ(WaitOf(id), "0 ahead, 2 at work, in 0 s");
}

TEST_F(QueueOutlookTest, GoesByWhatARunAtWorkSaysIsLeft) {
  AddRun(40);
  AddJob(1000);
  const JobClaim run = Claim();
  Claim();
  const std::string id = AddJob(10);
  v1::Progress progress;
  progress.mutable_run()->set_remaining_seconds(100);
  Tell(run, progress);
  clock_.Pass(30);
  progress.mutable_run()->set_remaining_seconds(0);  // not known yet
  Tell(run, progress);
  EXPECT_EQ(WaitOf(id), "0 ahead, 2 at work, in 70 s");
}

TEST_F(QueueOutlookTest, ForgetsWhatAnEarlierAttemptSaidWasLeft) {
  AddRun(400);
  AddJob(1000);
  const JobClaim run = Claim();
  Claim();
  v1::Progress progress;
  progress.mutable_run()->set_remaining_seconds(10);
  Tell(run, progress);
  ASSERT_TRUE(store_->Requeue(run, RequeueCause::kDraining, "").ok());
  Claim();
  EXPECT_EQ(WaitOf(AddJob(10)), "0 ahead, 2 at work, in 200 s");
}

TEST_F(QueueOutlookTest, GoesByWhatAMethodSaysIsLeftAndSharesTheEstimateAmongTheOthers) {
  AddJob(80, 0, /*methods=*/4);
  AddJob(1000);
  const JobClaim job = Claim();
  Claim();
  const std::string id = AddJob(10);
  v1::Progress progress;
  progress.set_method("m2");
  progress.set_remaining_seconds(50);
  Tell(job, progress);
  clock_.Pass(3);
  EXPECT_EQ(WaitOf(id), "0 ahead, 2 at work, in 57 s") << "47 s, and a quarter of 40 s";
  progress.set_method("m3");
  Tell(job, progress);
  EXPECT_EQ(WaitOf(id), "0 ahead, 2 at work, in 50 s");
}

TEST_F(QueueOutlookTest, ExpectsACancelledJobToEndNow) {
  const std::string id = AddJob(400);
  AddJob(400);
  Claim();
  Claim();
  ASSERT_TRUE(store_->RequestCancel(id).ok());
  EXPECT_EQ(WaitOf(AddJob(10)), "0 ahead, 2 at work, in 0 s");
}

TEST_F(QueueOutlookTest, ExpectsAJobToEndAtItsTimeout) {
  v1::Job job;
  job.mutable_estimate()->set_seconds(400);
  Add({.timeout = absl::Seconds(30), .spec = job.SerializeAsString()});
  AddJob(400);
  Claim();
  Claim();
  EXPECT_EQ(WaitOf(AddJob(10)), "0 ahead, 2 at work, in 30 s");
}

TEST_F(QueueOutlookTest, CountsResultsThatAQueuedJobHas) {
  AddJob(40, 0, /*methods=*/4);
  AddJob(1000);
  const JobClaim claim = Claim();
  Claim();
  ValueOrDie(store_->FinishMethod(claim, 0, "", {}));
  ASSERT_TRUE(store_->Requeue(claim, RequeueCause::kDraining, "").ok());
  AddJob(10, /*priority=*/1);
  Claim();
  EXPECT_EQ(WaitOf(AddJob(10)), "1 ahead, 2 at work, in 20 s") << "5 s, and 15 of 20 s";
}

TEST_F(QueueOutlookTest, KeepsTheForecastOfALongQueueForAWhile) {
  for (size_t i = 0; i <= QueueOutlook::kShortQueue; ++i) AddJob(2);
  const auto first = ValueOrDie(outlook_.Forecast());
  const JobRecord newest = ValueOrDie(store_->Get(AddJob(2)));
  EXPECT_EQ(ValueOrDie(outlook_.Forecast()), first);
  EXPECT_FALSE(first->WaitingOf(access::Everyone(), newest.id).has_value());
  EXPECT_EQ(first->WaitingOf(access::Everyone(), newest).ahead(), 101)
      << "behind all that were known";
  JobRecord urgent = newest;
  urgent.priority = 1;
  EXPECT_EQ(first->WaitingOf(access::Everyone(), urgent).ahead(), 0);
  clock_.Pass(3600);  // a second, and longer where a forecast takes long
  EXPECT_NE(ValueOrDie(outlook_.Forecast()), first);
}

// 200 jobs of 20 s are read, and 100 of 20 s are taken for such as them until the second forecast.
TEST_F(QueueOutlookTest, ReadsALongQueueAPieceAtATime) {
  for (size_t i = 0; i < QueueOutlook::kReads + 100; ++i) AddJob(20);
  const std::string last = AddJob(20);
  EXPECT_EQ(WaitOf(last), "300 ahead, 0 at work, in 1500 s");
  clock_.Pass(3600);
  EXPECT_EQ(WaitOf(last), "300 ahead, 0 at work, in 1500 s");
}

TEST_F(QueueOutlookTest, SaysWhichMethodIsAtWorkHowFarAndWhatIsLeftOfTheWhole) {
  const std::string id = AddJob(80, 0, /*methods=*/4);
  const JobClaim job = Claim();
  const auto work_of = [&](const std::string& of) {
    const v1::AtWork work = outlook_.AtWorkOf(ValueOrDie(store_->Get(of)));
    return absl::StrCat("'", work.method(), "' ", work.share(), " ", work.remaining_seconds());
  };
  EXPECT_EQ(work_of(id), "'' 0 40") << "the estimate, on two threads";
  clock_.Pass(100);
  EXPECT_EQ(work_of(id), "'' 0 0") << "it is over";
  ValueOrDie(store_->FinishMethod(job, 0, "", {}));
  EXPECT_EQ(work_of(id), "'' 0.25 0");
  v1::Progress progress;
  progress.set_method("m1");
  progress.set_step(5);
  progress.set_steps(10);
  progress.set_remaining_seconds(6);
  Tell(job, progress);
  EXPECT_EQ(work_of(id), "'m1' 0.375 26") << "6 s, and two quarters of 40 s";
}

TEST_F(QueueOutlookTest, SaysOfARunWhatItsNewestProgressDoes) {
  const std::string id = AddRun(40);
  const JobClaim run = Claim();
  v1::Progress progress;
  progress.mutable_run()->set_method("alps");
  progress.mutable_run()->set_share(0.75);
  progress.mutable_run()->set_remaining_seconds(9);
  Tell(run, progress);
  const v1::AtWork work = outlook_.AtWorkOf(ValueOrDie(store_->Get(id)));
  EXPECT_EQ(work.method(), "alps");
  EXPECT_EQ(work.share(), 0.75);
  EXPECT_EQ(work.remaining_seconds(), 9);
}

// --- The API ---

TEST(Waiting, IsSaidOfQueuedJobsAlone) {
  Backend backend;
  const std::string first = backend.Create(backend.GoodJob()).name();
  const v1::Job second = backend.Create(backend.GoodJob());
  EXPECT_EQ(second.waiting().ahead(), 1);
  backend.Claim();
  EXPECT_FALSE(ValueOrDie(backend.api().GetJob(access::Everyone(), first)).has_waiting());
  const v1::Job got = ValueOrDie(backend.api().GetJob(access::Everyone(), second.name()));
  EXPECT_THAT(got.waiting().running(), ElementsAre(first));
  EXPECT_TRUE(got.waiting().has_may_start_time());
  const v1::ListJobsResponse list = ValueOrDie(backend.api().ListJobs(access::Everyone(), {}));
  EXPECT_THAT(list.jobs(0).waiting().running(), ElementsAre(first));
  EXPECT_FALSE(list.jobs(1).has_waiting());
  EXPECT_TRUE(list.jobs(1).has_at_work());
  EXPECT_FALSE(list.jobs(0).has_at_work());
  EXPECT_FALSE(
      ValueOrDie(backend.api().CancelJob(access::Everyone(), second.name())).has_waiting());
}

TEST(Waiting, IsNotKeptOfWhatAClientSends) {
  Backend backend;
  v1::Job job = backend.GoodJob();
  job.mutable_waiting()->set_ahead(7);
  job.mutable_at_work()->set_share(0.5);
  const std::string name = backend.Create(job).name();
  const JobClaim claim = backend.Claim();
  EXPECT_EQ(name, "jobs/" + claim.id);
  const v1::Job got = ValueOrDie(backend.api().GetJob(access::Everyone(), name));
  EXPECT_FALSE(got.has_waiting());
  EXPECT_EQ(got.at_work().share(), 0);
}

}  // namespace
}  // namespace attnprune::api
