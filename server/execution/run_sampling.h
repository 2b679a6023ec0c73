// Rows that the dense model writes itself: they join a run's calibration rows before anything else.
#ifndef ATTNPRUNE_SERVER_EXECUTION_RUN_SAMPLING_H_
#define ATTNPRUNE_SERVER_EXECUTION_RUN_SAMPLING_H_

#include "absl/status/status.h"
#include "server/execution/claimed_job.h"
#include "server/execution/open_run.h"
#include "server/execution/run_results.h"

namespace attnprune {

// Of a run with Run.sampled: adds the rows behind its calibration rows. Writes them and stores them
// as the run's first result, unless an earlier attempt has. DATA_LOSS: they are gone or damaged.
absl::Status AddSampledRows(ClaimedJob& job, OpenRun& run, RunResults& results);

}  // namespace attnprune

#endif  // ATTNPRUNE_SERVER_EXECUTION_RUN_SAMPLING_H_
