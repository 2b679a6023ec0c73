// What PruneService does about runs, call by call, without gRPC.
#ifndef ATTNPRUNE_SERVER_API_RUN_API_H_
#define ATTNPRUNE_SERVER_API_RUN_API_H_

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "attnprune/v1/prune_service.pb.h"
#include "attnprune/v1/run.pb.h"
#include "server/api/job_api.h"
#include "server/api/queue_outlook.h"
#include "server/blobs/blob_store.h"
#include "server/queue/job_store.h"

namespace attnprune::api {

// Thread-safe. Calls may wait for the disk. Errors carry their details (status_details.h). The
// stores and the outlook must outlive it.
class RunApi {
 public:
  RunApi(const JobApiOptions& options, JobStore* jobs, BlobStore* tensors, QueueOutlook* outlook)
      : options_(options), jobs_(jobs), tensors_(tensors), outlook_(outlook) {}

  // OK means that the run is on disk (fsync); with validate_only nothing is stored,
  // nor need the tensors be.
  absl::StatusOr<v1::Run> CreateRun(const v1::CreateRunRequest& request,
                                    const JobOrigin& origin) const;
  // name: "runs/x", here and below.
  absl::StatusOr<v1::Run> GetRun(absl::string_view name) const;
  absl::StatusOr<v1::ListRunsResponse> ListRuns(const v1::ListRunsRequest& request) const;
  absl::StatusOr<v1::Run> CancelRun(absl::string_view name) const;
  absl::StatusOr<v1::Run> ResumeRun(absl::string_view name) const;
  absl::Status DeleteRun(absl::string_view name) const;

 private:
  const JobApiOptions options_;
  JobStore* const jobs_;
  BlobStore* const tensors_;
  QueueOutlook* const outlook_;
};

}  // namespace attnprune::api

#endif  // ATTNPRUNE_SERVER_API_RUN_API_H_
