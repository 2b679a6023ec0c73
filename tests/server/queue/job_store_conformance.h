// One suite for every job store: instantiate JobStoreConformance with a factory and link
// job_store_conformance_*.cc.
#ifndef ATTNPRUNE_TESTS_SERVER_QUEUE_JOB_STORE_CONFORMANCE_H_
#define ATTNPRUNE_TESTS_SERVER_QUEUE_JOB_STORE_CONFORMANCE_H_

#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <string>

#include "absl/strings/str_cat.h"
#include "server/queue/job_store.h"
#include "tests/server/queue/test_places.h"

namespace attnprune::testing {

inline constexpr int kMaxQueued = 300;
inline constexpr absl::Duration kPartLease = absl::Seconds(30);

// An empty store with a queue limit of kMaxQueued and the default policy, on a clock that the test
// moves.
class StoreUnderTest {
 public:
  virtual ~StoreUnderTest() = default;
  virtual JobStore& store() = 0;
  virtual SteppedClock& clock() = 0;
  // As after the only server was killed and started again.
  virtual void Reopen() = 0;
};
using StoreFactory = std::function<std::unique_ptr<StoreUnderTest>()>;

class JobStoreConformance : public ::testing::TestWithParam<StoreFactory> {
 protected:
  JobStore& store() { return place_->store(); }
  SteppedClock& clock() { return place_->clock(); }
  void Reopen() { place_->Reopen(); }

  // A job without any wishes; its id.
  std::string CreateJob() { return CreateJob(NewJob()); }
  std::string CreateJob(const NewJob& job) {
    const absl::StatusOr<CreateOutcome> outcome = store().Create(job);
    EXPECT_TRUE(outcome.ok()) << outcome.status();
    return outcome.ok() ? outcome->job.id : "";
  }
  JobRecord Get(const std::string& id) {
    const absl::StatusOr<JobRecord> job = store().Get(id);
    EXPECT_TRUE(job.ok()) << job.status();
    return job.ok() ? *job : JobRecord();
  }
  // The next job; fails the test if there is none.
  JobClaim Claim() {
    const auto job = store().Claim("worker", absl::Seconds(30));
    EXPECT_TRUE(job.ok() && job->has_value()) << job.status();
    if (!job.ok() || !job->has_value()) return {};
    return {(*job)->id, (*job)->fence};
  }
  // A running run with parts 0 to count - 1, each with one state, none of them claimed.
  JobClaim RunWithParts(int count, int priority = 0) {
    NewJob job;
    job.priority = priority;
    job.kind = JobKind::kRun;
    CreateJob(job);
    const JobClaim claim = Claim();
    for (int part = 0; part < count; ++part) {
      EXPECT_TRUE(store().OpenPart(claim, part, {absl::StrCat("state ", part)}).ok());
    }
    return claim;
  }
  // The next open part; fails the test if there is none.
  ClaimedPart ClaimPart(const std::string& id = "") {
    auto part = store().ClaimPart(id, "helper", kPartLease);
    EXPECT_TRUE(part.ok() && part->has_value()) << part.status();
    return part.ok() && part->has_value() ? **std::move(part) : ClaimedPart();
  }
  bool NoPartIsOpen() { return !store().ClaimPart("", "helper", kPartLease)->has_value(); }
  std::vector<StoredEvent> Events(const std::string& id, int64_t after = 0) {
    const auto events = store().ReadEvents(id, after, 1'000'000);
    EXPECT_TRUE(events.ok()) << events.status();
    return events.ok() ? *events : std::vector<StoredEvent>();
  }

 private:
  std::unique_ptr<StoreUnderTest> place_ = GetParam()();
};

inline NewJob WithPriority(int priority) {
  NewJob job;
  job.priority = priority;
  return job;
}

inline NewJob WithLabels(Labels labels) {
  NewJob job;
  job.labels = std::move(labels);
  return job;
}

inline NewJob WithRequest(std::string request_id, std::string digest) {
  NewJob job;
  job.request_id = std::move(request_id);
  job.request_digest = std::move(digest);
  return job;
}

inline NewEvent ProgressEvent(std::string payload) {
  return {EventKind::kProgress, std::move(payload)};
}

inline absl::StatusCode CodeOf(const absl::Status& status) { return status.code(); }
template <typename T>
absl::StatusCode CodeOf(const absl::StatusOr<T>& value) {
  return value.status().code();
}

}  // namespace attnprune::testing

#endif  // ATTNPRUNE_TESTS_SERVER_QUEUE_JOB_STORE_CONFORMANCE_H_
