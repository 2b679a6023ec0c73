// Runs one claimed run to its end: its model pruned tensor by tensor, each result stored as it
// comes.
#ifndef ATTNPRUNE_SERVER_EXECUTION_RUN_RUNNER_H_
#define ATTNPRUNE_SERVER_EXECUTION_RUN_RUNNER_H_

#include "server/blobs/blob_store.h"
#include "server/execution/job_runner.h"
#include "server/execution/stop_signal.h"
#include "server/queue/job_store.h"

namespace attnprune {

// As RunJob, of a job of JobKind::kRun.
//
// SUCCEEDED  every result is there
// FAILED     a tensor is gone or damaged (DATA_LOSS), the model, a token or a method does not fit
//            (INVALID_ARGUMENT), memory or disk ran out (RESOURCE_EXHAUSTED), or the timeout passed
//
// In INDEPENDENT order other workers may help (run_parts.h); the bits are the same.
//
// A result is stored once a tensor is pruned, and once a block is done, with the hidden states that
// leave it; an earlier attempt's are taken up, and the rest comes out with the same bits. A stop
// takes effect at the next step of a method that has steps, otherwise between two of: some 2,048
// tokens' way through a block, pruning a tensor, storing.
void RunModel(const JobRecord& run, JobStore* jobs, BlobStore* tensors,
              const JobRunnerOptions& options, StopSignal* stop);

}  // namespace attnprune

#endif  // ATTNPRUNE_SERVER_EXECUTION_RUN_RUNNER_H_
