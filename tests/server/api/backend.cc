#include "tests/server/api/backend.h"

#include <gtest/gtest.h>

#include "server/blobs/posix_blob_store.h"
#include "server/queue/sqlite/sqlite_job_store.h"
#include "tests/server/api/jobs_for_tests.h"
#include "tests/server/api/stored_tensors.h"
#include "tests/support/value_or_die.h"

namespace attnprune::api {

using testing::ValueOrDie;

Backend::Backend(const BackendOptions& options)
    : lock_(ValueOrDie(FolderLock::Acquire(folder_.path()))) {
  PosixBlobStoreOptions blobs;
  blobs.folder = folder_.path();
  tensors_ = ValueOrDie(OpenPosixBlobStore(blobs, &clock_));
  jobs_ = ValueOrDie(OpenSqliteJobStore(
      lock_, {.max_queued_jobs = options.max_queued_jobs, .policy = {}, .clock = &clock_}));
  JobApiOptions api;
  api.max_job_memory_bytes = options.max_job_memory_bytes;
  api.limits.set_max_tensor_bytes(blobs.limits.max_tensor_bytes);
  outlook_ = std::make_unique<QueueOutlook>(QueueOutlookOptions(), jobs_.get(), &clock_);
  tensor_api_ = std::make_unique<TensorApi>(tensors_.get(), jobs_.get());
  api_ = std::make_unique<JobApi>(api, jobs_.get(), tensor_api_.get(), outlook_.get());
  runs_ =
      std::make_unique<RunApi>(api, jobs_.get(), tensor_api_.get(), tensors_.get(), outlook_.get());
  hub_ = std::make_unique<JobHub>(jobs_.get(), &clock_);
  jobs_->SetListener(hub_.get());
}

Backend::~Backend() { jobs_->SetListener(nullptr); }

v1::Job Backend::GoodJob() {
  v1::Job job = LayerJob();
  StoreTensors(job, *tensors_);
  return job;
}

v1::Job Backend::Create(const v1::Job& job) {
  v1::CreateJobRequest request;
  *request.mutable_job() = job;
  return ValueOrDie(api_->CreateJob(access::Everyone(), request, JobOrigin()));
}

JobClaim Backend::Claim() {
  const absl::optional<JobRecord> job = ValueOrDie(jobs_->Claim("test", absl::Hours(1)));
  EXPECT_TRUE(job.has_value());
  return {.id = job->id, .fence = job->fence};
}

void Backend::Append(const JobClaim& claim, const std::vector<NewEvent>& events) {
  ValueOrDie(jobs_->AppendEvents(claim, events));
}

}  // namespace attnprune::api
