// What PruneService does, call by call, without gRPC: checks, asks the stores, converts.
#ifndef ATTNPRUNE_SERVER_API_JOB_API_H_
#define ATTNPRUNE_SERVER_API_JOB_API_H_

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "attnprune/v1/prune_service.pb.h"
#include "server/access/caller.h"
#include "server/api/estimate.h"
#include "server/api/job_check.h"
#include "server/api/queue_outlook.h"
#include "server/api/tensor_api.h"
#include "server/queue/job_store.h"

namespace attnprune::api {

struct JobApiOptions {
  v1::Limits limits;  // as GetServerInfo tells them
  // That a job may take; 0: no limit. Dense attention is rebuilt where it would not fit; a job
  // whose estimate is above even so is refused.
  int64_t max_job_memory_bytes = 0;
  int workers = 1;
  int threads_per_job = 1;
  MachineRate rate;                               // for estimates
  absl::Duration retry_after = absl::Seconds(5);  // told to clients when the queue or disk is full
};

// Thread-safe. Calls may wait for the disk. Errors carry their details (status_details.h). The
// store, the tensors and the outlook must outlive it. Whether the caller's role allows the call is
// access::Gate's to say; here another tenant's job is NOT_FOUND, and what is made is the caller's
// tenant's.
class JobApi {
 public:
  JobApi(const JobApiOptions& options, JobStore* jobs, const TensorApi* tensors,
         QueueOutlook* outlook);

  // OK means that the job is on disk (fsync); with validate_only nothing is stored, nor need the
  // tensors be. origin: kept with the job, unless the request is repeated.
  absl::StatusOr<v1::Job> CreateJob(const access::Caller& caller,
                                    const v1::CreateJobRequest& request,
                                    const JobOrigin& origin) const;
  // name: "jobs/x", here and below.
  absl::StatusOr<v1::Job> GetJob(const access::Caller& caller, absl::string_view name) const;
  absl::StatusOr<v1::ListJobsResponse> ListJobs(const access::Caller& caller,
                                                const v1::ListJobsRequest& request) const;
  absl::StatusOr<v1::Job> CancelJob(const access::Caller& caller, absl::string_view name) const;
  absl::Status DeleteJob(const access::Caller& caller, absl::string_view name) const;
  absl::StatusOr<v1::ServerInfo> GetServerInfo() const;

 private:
  const JobApiOptions options_;
  JobStore* const jobs_;
  const TensorApi* const tensors_;
  QueueOutlook* const outlook_;
};

}  // namespace attnprune::api

#endif  // ATTNPRUNE_SERVER_API_JOB_API_H_
