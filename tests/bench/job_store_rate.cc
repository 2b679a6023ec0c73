// What a job store does in a second, with its queue full: creates, claims, renewals, events.
//
//   job_store_rate --store=postgresql://user@host/database --folder=DIR [--queued=10000]
//                  [--threads=8] [--stores=1] [--seconds=5] [--batch=100] [--tenants=1]
//                  [--job_ms=0]
//
// Without --store: SQLite in DIR, which is to be on a disk and empty. The database is to be empty
// too. Each of --stores is a server's, the threads are shared out among them. Jobs end at once.
// With --job_ms above 0 something else is measured: how many jobs a second come through, as a share
// of what the threads could do, where each takes so long and tells of its progress every 100 ms.
#include <algorithm>
#include <atomic>
#include <cstdio>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/flags/flag.h"
#include "absl/flags/parse.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "server/queue/folder_lock.h"
#include "server/queue/postgres/postgres_job_store.h"
#include "server/queue/sqlite/sqlite_job_store.h"
#include "tests/support/timing.h"

ABSL_FLAG(std::string, store, "", "URL of a PostgreSQL database; empty: SQLite");
ABSL_FLAG(std::string, folder, "", "of checkpoints, and of SQLite");
ABSL_FLAG(int, queued, 10'000, "jobs that wait all the while");
ABSL_FLAG(int, threads, 8, "that call the stores");
ABSL_FLAG(int, stores, 1, "servers of the database");
ABSL_FLAG(int, seconds, 5, "that each rate is measured");
ABSL_FLAG(int, batch, 100, "events appended at once");
ABSL_FLAG(int, tenants, 1, "whose jobs they are");
ABSL_FLAG(int, job_ms, 0, "that each job takes; 0: at once");

namespace attnprune {
namespace {

constexpr int64_t kMost = 1'000'000;
constexpr absl::Duration kLease = absl::Seconds(30);

template <typename T>
T OrDie(absl::StatusOr<T> value) {
  if (value.ok()) return *std::move(value);
  std::fprintf(stderr, "%s\n", value.status().ToString().c_str());
  std::exit(1);
}

NewJob JobOf(int64_t number) {
  NewJob job;
  job.tenant = absl::StrCat("tenant", number % absl::GetFlag(FLAGS_tenants));
  job.spec = std::string(500, 's');
  job.labels = {{"layer", "q"}};
  job.tensor_digests = {std::string(64, 'a'), std::string(64, 'b')};
  return job;
}

class Stores {
 public:
  Stores() {
    const std::string url = absl::GetFlag(FLAGS_store), folder = absl::GetFlag(FLAGS_folder);
    if (url.empty()) {
      lock_ = std::make_unique<FolderLock>(OrDie(FolderLock::Acquire(folder)));
      stores_.push_back(OrDie(OpenSqliteJobStore(*lock_, {.max_queued_jobs = kMost})));
      return;
    }
    for (int i = 0; i < absl::GetFlag(FLAGS_stores); ++i) {
      PostgresJobStoreOptions options;
      options.url = url;
      options.checkpoint_folder = folder + "/checkpoints";
      options.owner = absl::StrCat("server", i);
      options.max_queued_jobs = kMost;
      stores_.push_back(OrDie(OpenPostgresJobStore(options)));
    }
  }
  JobStore& Of(int thread) { return *stores_[static_cast<size_t>(thread) % stores_.size()]; }

 private:
  std::unique_ptr<FolderLock> lock_;
  std::vector<std::unique_ptr<JobStore>> stores_;
};

// Calls `work` on every thread again and again; prints its rate and what one call takes.
void Measure(const char* what, Stores& stores, int units,
             const std::function<void(int thread, JobStore& store)>& work) {
  const absl::Time end = absl::Now() + absl::Seconds(absl::GetFlag(FLAGS_seconds));
  std::mutex mutex;
  std::vector<double> all;
  std::vector<std::thread> threads;
  for (int i = 0; i < absl::GetFlag(FLAGS_threads); ++i) {
    threads.emplace_back([&, i] {
      std::vector<double> seconds;
      while (absl::Now() < end) {
        const auto begun = testing::Clock::now();
        work(i, stores.Of(i));
        seconds.push_back(testing::SecondsSince(begun));
      }
      const std::lock_guard<std::mutex> lock(mutex);
      all.insert(all.end(), seconds.begin(), seconds.end());
    });
  }
  for (std::thread& thread : threads) thread.join();
  const double rate = static_cast<double>(all.size()) * units / absl::GetFlag(FLAGS_seconds);
  std::printf("%-10s %9.0f a second, %7.2f ms a call (median)\n", what, rate,
              testing::Median(all) * 1e3);
}

// A solver that computes nothing.
void Solve(JobStore& store, const JobRecord& job) {
  const JobClaim claim{job.id, job.fence};
  const std::vector<NewEvent> progress(10, {EventKind::kProgress, std::string(120, 'p')});
  const absl::Time end = absl::Now() + absl::Milliseconds(absl::GetFlag(FLAGS_job_ms));
  while (absl::Now() < end) {
    absl::SleepFor(std::min(end - absl::Now(), absl::Milliseconds(100)));
    OrDie(store.AppendEvents(claim, progress));
  }
  OrDie(store.FinishMethod(claim, 0, "result", {}));
  store.Finish(claim, JobState::kSucceeded, {}, "").IgnoreError();
}

// Every worker does the same number of jobs, at least one.
void MeasureThroughput(Stores& stores) {
  const int threads = absl::GetFlag(FLAGS_threads), job_ms = absl::GetFlag(FLAGS_job_ms);
  const int jobs = std::max(absl::GetFlag(FLAGS_seconds) * 1000 / job_ms, 1);
  std::mutex mutex;
  double rate = 0;
  std::vector<std::thread> workers;
  for (int i = 0; i < threads; ++i) {
    workers.emplace_back([&, i] {
      const auto begun = testing::Clock::now();
      for (int done = 0; done < jobs; ++done) {
        Solve(stores.Of(i), OrDie(stores.Of(i).Claim("worker", kLease)).value());
      }
      const std::lock_guard<std::mutex> lock(mutex);
      rate += jobs / testing::SecondsSince(begun);
    });
  }
  for (std::thread& worker : workers) worker.join();
  const double most = threads * 1000.0 / job_ms;
  std::printf("%d workers of %d servers: %.2f jobs a second, %.3f of %.2f\n", threads,
              absl::GetFlag(FLAGS_stores), rate, rate / most, most);
}

void Run() {
  Stores stores;
  const int threads = absl::GetFlag(FLAGS_threads), queued = absl::GetFlag(FLAGS_queued);
  std::vector<std::thread> filling;
  for (int i = 0; i < threads; ++i) {
    filling.emplace_back([&, i] {
      for (int64_t job = i; job < queued; job += threads) OrDie(stores.Of(i).Create(JobOf(job)));
    });
  }
  for (std::thread& thread : filling) thread.join();
  if (absl::GetFlag(FLAGS_job_ms) > 0) return MeasureThroughput(stores);
  std::atomic<int64_t> made{queued};
  const auto create = [&made](JobStore& store) { OrDie(store.Create(JobOf(made++))); };
  std::vector<double> alone;
  for (int i = 0; i < 300; ++i) {
    const auto begun = testing::Clock::now();
    create(stores.Of(0));
    alone.push_back(testing::SecondsSince(begun));
  }
  std::printf("create, one thread, %d queued: %.2f ms (median)\n", queued,
              testing::Median(alone) * 1e3);
  Measure("creates", stores, 1, [&](int, JobStore& store) { create(store); });
  Measure("forecasts", stores, 1, [](int, JobStore& store) { OrDie(store.ReadOutstanding()); });
  Measure("upkeep", stores, 1, [](int, JobStore& store) { OrDie(store.ReadTimed()); });
  Measure("claim, end", stores, 1, [](int, JobStore& store) {
    const auto job = OrDie(store.Claim("worker", kLease));
    if (!job.has_value()) return;
    store.Finish({job->id, job->fence}, JobState::kSucceeded, {}, "").IgnoreError();
  });
  std::vector<JobClaim> claims;
  for (int i = 0; i < threads; ++i) {
    const auto job = OrDie(stores.Of(i).Claim("worker", kLease));
    claims.push_back({job->id, job->fence});
  }
  Measure("claims", stores, 1, [](int, JobStore& store) { OrDie(store.Claim("worker", kLease)); });
  Measure("renewals", stores, 1, [&](int thread, JobStore& store) {
    OrDie(store.RenewLease(claims[static_cast<size_t>(thread)], kLease));
  });
  const std::vector<NewEvent> batch(static_cast<size_t>(absl::GetFlag(FLAGS_batch)),
                                    {EventKind::kProgress, std::string(120, 'p')});
  Measure("events", stores, absl::GetFlag(FLAGS_batch), [&](int thread, JobStore& store) {
    OrDie(store.AppendEvents(claims[static_cast<size_t>(thread)], batch));
  });
}

}  // namespace
}  // namespace attnprune

int main(int argc, char** argv) {
  absl::ParseCommandLine(argc, argv);
  attnprune::Run();
}
