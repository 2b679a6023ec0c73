// What of a job stays in memory.
#ifndef ATTNPRUNE_SERVER_EXECUTION_MEMORY_PLAN_H_
#define ATTNPRUNE_SERVER_EXECUTION_MEMORY_PLAN_H_

#include <cstdint>

#include "attnprune/v1/job.pb.h"
#include "core/objective/attention_objective.h"

namespace attnprune {

// How a job with these peaks is to run: the first way that `budget` bytes have room for (0: any),
// or the last. By kRecompute calibration and held-out tokens are in a file, not in memory. No
// result depends on it. A job that an older server stored has no figure for rebuilding: 0, which
// fits, as that server had it.
inline DenseAttention WithinBudget(const v1::Estimate& estimate, int64_t budget) {
  if (budget == 0 || estimate.memory_keeping_attention_bytes() <= budget) {
    return DenseAttention::kKeep;
  }
  return estimate.memory_rebuilding_attention_bytes() <= budget ? DenseAttention::kRebuild
                                                                : DenseAttention::kRecompute;
}

}  // namespace attnprune

#endif  // ATTNPRUNE_SERVER_EXECUTION_MEMORY_PLAN_H_
