// A pruned layer in the files of its model: the model's own names, shapes and element types.
#ifndef ATTNPRUNE_EXAMPLES_PRUNED_FILES_H_
#define ATTNPRUNE_EXAMPLES_PRUNED_FILES_H_

#include <string>

#include "absl/status/status.h"
#include "core/methods/method.h"
#include "core/problem/hf_layer.h"

namespace attnprune {

// Rounds the pruned weights to the element types that the model stores, so that what is judged is
// what will be read back. Entries that are 0 stay 0.
absl::Status RoundToStoredTypes(const HfLayer& layer, PruneResult* result);

// Makes the folder and those above it, unless they are there.
absl::Status MakeFolder(const std::string& folder);

// Writes into `folder`, which is there:
//   each file of the model that holds a pruned weight, whole, with those weights replaced;
//   masks.safetensors, a BOOL tensor for each of them by the same name, 1 where it was kept.
absl::Status WritePrunedFiles(const HfLayer& layer, const PruneResult& result,
                              const std::string& folder);

}  // namespace attnprune

#endif  // ATTNPRUNE_EXAMPLES_PRUNED_FILES_H_
