// How a run keeps to its server's memory.
#ifndef ATTNPRUNE_SERVER_EXECUTION_RUN_PLACES_H_
#define ATTNPRUNE_SERVER_EXECUTION_RUN_PLACES_H_

#include <array>
#include <cstdint>

#include "core/objective/attention_objective.h"
#include "server/execution/run_plan.h"

namespace attnprune {

// Ways to have dense attention, each with less memory than the one before.
inline constexpr DenseAttention kAttentionWays[] = {DenseAttention::kKeep, DenseAttention::kRebuild,
                                                    DenseAttention::kRecompute};

// Bytes that parts of a run take, at their most. What is of states can be in files instead.
struct RunSizes {
  double hidden_states = 0;                     // of all rows, while blocks are pruned
  double kept_states = 0;                       // that a block keeps beside them
  double layer = 0;                             // a pass through it, its moments, its curvature
  double method = 0;                            // on a tensor
  bool by_attention = false;                    // q and k are pruned together:
  std::array<double, 3> attention_method = {};  // by kAttentionWays
  double tokens = 0;                            // that are in a file with the last of these
  double sampling = 0;
  double measuring = 0, measuring_states = 0;
  double reconstructing = 0, reconstructing_states = 0;
  double distilling = 0, distilling_states = 0;
};

// Gives the plan the first of its places (RunPlan::places) that `memory_budget` bytes have room
// for, or the last, the memory that it then takes, and its files' disk. 0: any memory. Pure.
void ChoosePlaces(const RunSizes& sizes, int64_t memory_budget, RunPlan& plan);

}  // namespace attnprune

#endif  // ATTNPRUNE_SERVER_EXECUTION_RUN_PLACES_H_
