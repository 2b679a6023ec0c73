#include "server/upkeep/tensor_collector.h"

#include <set>
#include <string>

#include "core/base/status_macros.h"

namespace attnprune {

absl::StatusOr<Collected> CollectTensors(JobStore* jobs, BlobStore* tensors, absl::Duration grace) {
  // First: whose it was is forgotten before the tensor goes, so that no tenant learns by an old
  // note that another has brought it again.
  ATTNPRUNE_RETURN_IF_ERROR(jobs->ForgetTensors(grace));
  ATTNPRUNE_ASSIGN_OR_RETURN(const std::set<std::string> referenced, jobs->ReferencedDigests());
  return tensors->Collect({referenced.begin(), referenced.end()}, grace);
}

}  // namespace attnprune
