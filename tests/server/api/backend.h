// The job API and the hub over real stores in a folder of their own, without a port and without
// workers: tests play the worker, so that nothing depends on time.
#ifndef ATTNPRUNE_TESTS_SERVER_API_BACKEND_H_
#define ATTNPRUNE_TESTS_SERVER_API_BACKEND_H_

#include <memory>
#include <string>
#include <vector>

#include "attnprune/v1/job.pb.h"
#include "core/base/clock.h"
#include "server/api/job_api.h"
#include "server/api/job_hub.h"
#include "server/api/queue_outlook.h"
#include "server/api/run_api.h"
#include "server/api/tensor_api.h"
#include "server/blobs/blob_store.h"
#include "server/queue/folder_lock.h"
#include "server/queue/job_store.h"
#include "tests/server/api/temporary_folder.h"

namespace attnprune::api {

struct BackendOptions {
  int64_t max_queued_jobs = 1000;
  int64_t max_job_memory_bytes = 0;
};

class Backend {
 public:
  explicit Backend(const BackendOptions& options = {});
  ~Backend();

  JobStore& jobs() { return *jobs_; }
  BlobStore& tensors() { return *tensors_; }
  const JobApi& api() const { return *api_; }
  const RunApi& runs() const { return *runs_; }
  JobHub& hub() { return *hub_; }
  const TensorApi& tensor_api() const { return *tensor_api_; }
  QueueOutlook& outlook() { return *outlook_; }

  // A job that the API takes; its tensors are there.
  v1::Job GoodJob();
  // Creates it, or fails the test.
  v1::Job Create(const v1::Job& job);
  // Claims the next job as a worker would.
  JobClaim Claim();
  void Append(const JobClaim& claim, const std::vector<NewEvent>& events);

 private:
  const TemporaryFolder folder_;
  const RealClock clock_;
  const FolderLock lock_;
  std::unique_ptr<BlobStore> tensors_;
  std::unique_ptr<JobStore> jobs_;
  std::unique_ptr<QueueOutlook> outlook_;
  std::unique_ptr<TensorApi> tensor_api_;
  std::unique_ptr<JobApi> api_;
  std::unique_ptr<RunApi> runs_;
  std::unique_ptr<JobHub> hub_;
};

}  // namespace attnprune::api

#endif  // ATTNPRUNE_TESTS_SERVER_API_BACKEND_H_
