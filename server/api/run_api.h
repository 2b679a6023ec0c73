// What PruneService does about runs, call by call, without gRPC.
#ifndef ATTNPRUNE_SERVER_API_RUN_API_H_
#define ATTNPRUNE_SERVER_API_RUN_API_H_

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "attnprune/v1/prune_service.pb.h"
#include "attnprune/v1/run.pb.h"
#include "server/access/caller.h"
#include "server/api/job_api.h"
#include "server/api/queue_outlook.h"
#include "server/api/tensor_api.h"
#include "server/blobs/blob_store.h"
#include "server/queue/job_store.h"

namespace attnprune::api {

// As JobApi; blobs is what tensors shows.
class RunApi {
 public:
  RunApi(const JobApiOptions& options, JobStore* jobs, const TensorApi* tensors,
         const BlobStore* blobs, QueueOutlook* outlook)
      : options_(options), jobs_(jobs), tensors_(tensors), blobs_(blobs), outlook_(outlook) {}

  // OK means that the run is on disk (fsync); with validate_only nothing is stored,
  // nor need the tensors be.
  absl::StatusOr<v1::Run> CreateRun(const access::Caller& caller,
                                    const v1::CreateRunRequest& request,
                                    const JobOrigin& origin) const;
  // name: "runs/x", here and below.
  absl::StatusOr<v1::Run> GetRun(const access::Caller& caller, absl::string_view name) const;
  absl::StatusOr<v1::ListRunsResponse> ListRuns(const access::Caller& caller,
                                                const v1::ListRunsRequest& request) const;
  absl::StatusOr<v1::Run> CancelRun(const access::Caller& caller, absl::string_view name) const;
  absl::StatusOr<v1::Run> ResumeRun(const access::Caller& caller, absl::string_view name) const;
  absl::Status DeleteRun(const access::Caller& caller, absl::string_view name) const;

 private:
  const JobApiOptions options_;
  JobStore* const jobs_;
  const TensorApi* const tensors_;
  const BlobStore* const blobs_;
  QueueOutlook* const outlook_;
};

}  // namespace attnprune::api

#endif  // ATTNPRUNE_SERVER_API_RUN_API_H_
