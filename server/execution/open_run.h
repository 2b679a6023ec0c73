// A run read from the stores: its model, its tokens and its plan.
#ifndef ATTNPRUNE_SERVER_EXECUTION_OPEN_RUN_H_
#define ATTNPRUNE_SERVER_EXECUTION_OPEN_RUN_H_

#include <memory>
#include <utility>

#include "absl/status/statusor.h"
#include "attnprune/v1/run.pb.h"
#include "core/base/thread_pool.h"
#include "core/model/forward.h"
#include "server/execution/claimed_job.h"
#include "server/execution/run_plan.h"
#include "server/execution/run_spec.h"

namespace attnprune {

struct OpenRun {
  RunSpec spec;
  ThreadPool pool;
  std::unique_ptr<Forward> forward;
  RunRows rows;
  RunPlan plan;

  OpenRun(RunSpec decoded, int threads) : spec(std::move(decoded)), pool(threads) {}

  // Hashes every tensor. DATA_LOSS: one is damaged or gone; INVALID_ARGUMENT names the field;
  // CANCELLED: the job is to stop.
  static absl::StatusOr<std::unique_ptr<OpenRun>> Open(ClaimedJob& job, const v1::Run& message);
};

}  // namespace attnprune

#endif  // ATTNPRUNE_SERVER_EXECUTION_OPEN_RUN_H_
