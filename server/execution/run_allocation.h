// The sparsities of a run's blocks, where it takes a pass over the dense model to know them.
#ifndef ATTNPRUNE_SERVER_EXECUTION_RUN_ALLOCATION_H_
#define ATTNPRUNE_SERVER_EXECUTION_RUN_ALLOCATION_H_

#include "absl/status/status.h"
#include "server/execution/block_run.h"
#include "server/execution/claimed_job.h"
#include "server/execution/open_run.h"
#include "server/execution/run_results.h"

namespace attnprune {

// Of a run with an OWL allocation, before any other result: makes the pass and stores what comes of
// it as the run's first result, unless an earlier attempt has. INVALID_ARGUMENT: a block's sparsity
// would not be in [0, 1).
absl::Status AllocateSparsities(ClaimedJob& job, OpenRun& run, RunResults& results);

// Puts the stored sparsities, if there are any, into the run's plan.
void TakeUpAllocation(RunTools& tools);

}  // namespace attnprune

#endif  // ATTNPRUNE_SERVER_EXECUTION_RUN_ALLOCATION_H_
