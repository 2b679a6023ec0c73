// How each tensor of a run is pruned: its rules read in order.
#ifndef ATTNPRUNE_SERVER_EXECUTION_RUN_CHOICE_H_
#define ATTNPRUNE_SERVER_EXECUTION_RUN_CHOICE_H_

#include <map>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/optional.h"
#include "core/sequential/stretch.h"
#include "server/execution/run_spec.h"

namespace attnprune {

// The first that matches; nullptr: none. Into `run`, as below.
const RunRule* RuleOf(const RunSpec& run, const TensorMaps& tensor);

// Of that rule, or the run's; nullptr: the tensor stays dense.
const RunChoice* BaseChoiceOf(const RunSpec& run, const TensorMaps& tensor);
// What an allocation gives, where it differs from the run's.
struct SharedSparsities {
  absl::optional<double> of_block;
  const std::map<std::string, double>& by_tensor;  // by name; goes before the block's
};
// The same as BaseChoiceOf with the allocation's sparsity. nullopt: the tensor stays dense.
absl::optional<RunChoice> ChoiceOf(const RunSpec& run, const SharedSparsities& shared,
                                   const TensorMaps& tensor);

// Whether Run.attention_method prunes the q and k that lie in it.
bool IsByAttention(const RunSpec& run, const TensorMaps& tensor);
// Whether it prunes both q and k of a block, at one sparsity, or neither: INVALID_ARGUMENT names
// run.attention_method, the tensor and what decides on it. tensors: of the block, those with q or
// k.
absl::Status CheckAttentionTensors(const RunSpec& run, const std::vector<TensorMaps>& tensors);

}  // namespace attnprune

#endif  // ATTNPRUNE_SERVER_EXECUTION_RUN_CHOICE_H_
