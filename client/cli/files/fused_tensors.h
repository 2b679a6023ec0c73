// Parts of fused and transposed tensors, as a job prunes them, and the tensors of a file.
#ifndef ATTNPRUNE_CLIENT_CLI_FILES_FUSED_TENSORS_H_
#define ATTNPRUNE_CLIENT_CLI_FILES_FUSED_TENSORS_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "client/cli/files/pruned_files.h"
#include "core/io/checkpoint.h"

namespace attnprune::cli {

// "c_attn.weight" of its part "c_attn.weight[q]"; other names are themselves.
std::string StoredName(const std::string& name);

// SHA-256 of the tensor `name` of `source`, or of that part of a tensor of the model in the folder
// `source`. NOT_FOUND: there is none.
absl::StatusOr<std::string> DigestOf(const Checkpoint& checkpoint, const std::string& source,
                                     const std::string& name);

// Parts put back in their tensors, with the rest of these as in `source`, a model's folder; what is
// no part stays. FAILED_PRECONDITION: the source has no such tensor.
absl::StatusOr<std::vector<PrunedTensor>> JoinParts(std::vector<PrunedTensor> tensors,
                                                    const std::string& source);

}  // namespace attnprune::cli

#endif  // ATTNPRUNE_CLIENT_CLI_FILES_FUSED_TENSORS_H_
