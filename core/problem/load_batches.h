// Reads calibration and held-out batches from files.
#ifndef ATTNPRUNE_CORE_PROBLEM_LOAD_BATCHES_H_
#define ATTNPRUNE_CORE_PROBLEM_LOAD_BATCHES_H_

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "core/problem/batches.h"

namespace attnprune {

// Batches of a float array, (n, d) for one or (k, n, d) for k of equal length, as float32.
//
// path: a .safetensors file, whose `tensor` may be left out (empty) if it holds exactly one of
// a float type; or a .npy file, whose array has no name. INVALID_ARGUMENT or NOT_FOUND names the
// file, the tensor, the rule and the value; where the tensor must be named, the choice there is.
absl::StatusOr<Batches> LoadBatches(const std::string& path, absl::string_view tensor = "");

}  // namespace attnprune

#endif  // ATTNPRUNE_CORE_PROBLEM_LOAD_BATCHES_H_
