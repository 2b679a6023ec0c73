#include "server/upkeep/tensor_collector.h"

#include <set>
#include <string>

#include "core/base/status_macros.h"

namespace attnprune {

absl::StatusOr<Collected> CollectTensors(JobStore* jobs, BlobStore* tensors, absl::Duration grace) {
  ATTNPRUNE_ASSIGN_OR_RETURN(const std::set<std::string> referenced, jobs->ReferencedDigests());
  return tensors->Collect({referenced.begin(), referenced.end()}, grace);
}

}  // namespace attnprune
