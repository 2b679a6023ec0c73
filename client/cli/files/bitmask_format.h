// A model's folder whose pruned tensors take a bit an entry and their kept values. A shard that has
// any is a safetensors file with, in place of each such tensor NAME:
//
//   NAME.bitmask   U8 (ceil(entries / 8)): 1 is kept; row-major, lowest bit first, unused bits 0
//   NAME.values    the tensor's dtype (kept entries): row-major
//
// and in its metadata kFormatKey: "bitmask", kShapesKey: {"NAME": [rows, columns], ...}. All other
// tensors, metadata and files are the dense model's; so is model.safetensors.index.json, which
// names the tensors that unpacking gives back. No loader reads it: it is for disks and networks.
#ifndef ATTNPRUNE_CLIENT_CLI_FILES_BITMASK_FORMAT_H_
#define ATTNPRUNE_CLIENT_CLI_FILES_BITMASK_FORMAT_H_

#include <cstddef>
#include <string>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "client/cli/files/pruned_files.h"
#include "core/tensor/bit_mask.h"

namespace attnprune::cli {

inline constexpr char kFormatKey[] = "attnprune.format";
inline constexpr char kShapesKey[] = "attnprune.shapes";
inline constexpr char kBitmaskFormat[] = "bitmask";

std::string BitmaskName(const std::string& tensor);
std::string ValuesName(const std::string& tensor);

// The kept ones of a tensor's elements. DATA_LOSS: a size is wrong, or a pruned element is not 0
// in all its bits.
absl::StatusOr<std::string> KeptValues(absl::Span<const char> dense, const BitMask& mask,
                                       size_t element_bytes);
// The way back. DATA_LOSS: a size is wrong.
absl::StatusOr<std::string> DenseValues(absl::Span<const char> kept, const BitMask& mask,
                                        size_t element_bytes);

// The dense model of a folder in this format, every file with the very bytes that a dense output
// has. INVALID_ARGUMENT or NOT_FOUND names the file: the folder has no such tensors, or is damaged.
absl::StatusOr<WrittenFiles> UnpackModel(const std::string& source, const std::string& output,
                                         Stopped stopped);

}  // namespace attnprune::cli

#endif  // ATTNPRUNE_CLIENT_CLI_FILES_BITMASK_FORMAT_H_
