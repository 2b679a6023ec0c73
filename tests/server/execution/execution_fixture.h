// Stores in a folder of their own, and small jobs to run on them.
#ifndef ATTNPRUNE_TESTS_SERVER_EXECUTION_EXECUTION_FIXTURE_H_
#define ATTNPRUNE_TESTS_SERVER_EXECUTION_EXECUTION_FIXTURE_H_

#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/types/optional.h"
#include "attnprune/v1/job.pb.h"
#include "attnprune/v1/prune_service.pb.h"
#include "core/base/mutex.h"
#include "core/tensor/dtype.h"
#include "core/tensor/matrix.h"
#include "server/blobs/posix_blob_store.h"
#include "server/execution/job_runner.h"
#include "server/execution/worker_pool.h"
#include "tests/server/execution/hooked_clock.h"
#include "tests/server/queue/sqlite/sqlite_place.h"

namespace attnprune::testing {

// The data folder of a server with its stores open.
class Place {
 public:
  explicit Place(const std::string& folder);

  JobStore& jobs() { return *opened_->store; }
  BlobStore& tensors() { return *tensors_; }
  SteppedClock& clock() { return clock_; }
  // As after a kill: whoever was running is dead.
  void Reopen();

  v1::TensorRef Put(const Matrix& matrix, DType dtype, std::vector<int64_t> shape = {});
  std::string Create(const v1::Job& job, int priority = 0,
                     absl::Duration timeout = absl::ZeroDuration());
  JobRecord Claim();
  JobRecord Get(const std::string& id);
  std::vector<StoredEvent> Events(const std::string& id);
  v1::MethodResult Result(const std::string& id, int index = 0);
  std::string Bytes(const v1::TensorRef& tensor);

 private:
  void Open();

  const std::string folder_;
  SteppedClock clock_;
  std::unique_ptr<OpenedStore> opened_;
  std::unique_ptr<BlobStore> tensors_;
};

// d = 8, 2 heads of width 4 on 1 kv head with rotary embedding, in bfloat16; 2 x 6 + 5 tokens in
// float32, 4 held out. Half of the weights go.
v1::Job LayerJob(Place* place);
// Adds "gd", "magnitude" ... with parameters.
v1::Method* AddMethod(const std::string& name, v1::Job* job,
                      const std::map<std::string, double>& parameters = {});
// LayerJob with gd over some steps, evaluated at every third.
v1::Job DescentJob(Place* place, int steps = 12);

// What a result says, but for how long it took.
std::string Verdict(v1::MethodResult result);

// The step that a progress event tells of; nothing for other events and for phases.
absl::optional<v1::Progress> StepOf(const StoredEvent& event);

// Follows a store and lets a test wait for what it is waiting for.
class EventLog final : public JobStoreListener {
 public:
  void OnEvents(const std::string& job_id, absl::Span<const StoredEvent> events) override;
  void OnCancelRequested(const std::string&) override {}

  // Waits until the job has come into the state, then on to later states or not.
  void Await(const std::string& job_id, JobState state);
  // Waits until the job has at least `count` progress events of steps.
  void AwaitProgress(const std::string& job_id, int count);
  // Jobs in the order in which they began to run.
  std::vector<std::string> started();

 private:
  Mutex mutex_;
  CondVar changed_;
  std::map<std::string, std::vector<JobState>> states_ ABSL_GUARDED_BY(mutex_);
  std::map<std::string, int> progress_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::string> started_ ABSL_GUARDED_BY(mutex_);
};

class ExecutionTest : public ::testing::Test {
 protected:
  JobRunnerOptions RunnerOptions() {
    JobRunnerOptions options;
    options.clock = &hooked_;
    options.checkpoint_interval = absl::ZeroDuration();
    options.progress_interval = absl::ZeroDuration();
    options.retry_interval = absl::Milliseconds(1);
    options.spill_folder = folder_.path();
    options.min_free_disk_bytes = 0;
    return options;
  }
  // Claims the next job and runs it.
  void RunNext(StopSignal* stop) {
    const JobRecord job = place_.Claim();
    RunJob(job, &place_.jobs(), &place_.tensors(), RunnerOptions(), stop);
  }
  void RunNext() {
    StopSignal stop;
    RunNext(&stop);
  }

  ScratchFolder folder_;
  Place place_{folder_.path()};
  HookedClock hooked_{&place_.clock()};
};

}  // namespace attnprune::testing

#endif  // ATTNPRUNE_TESTS_SERVER_EXECUTION_EXECUTION_FIXTURE_H_
