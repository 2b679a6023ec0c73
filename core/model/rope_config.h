// The rotary embedding that a config.json describes.
#ifndef ATTNPRUNE_CORE_MODEL_ROPE_CONFIG_H_
#define ATTNPRUNE_CORE_MODEL_ROPE_CONFIG_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/optional.h"
#include "core/kernels/rope.h"
#include "core/model/config_section.h"
#include "core/model/family.h"

namespace attnprune {

struct RopeConfig {
  Rope everywhere;               // of the layers that have no other
  absl::optional<Rope> sliding;  // of layers with a window, where they differ (gemma3)
  std::vector<std::string> notes;
};

// From rope_theta and its like, rope_scaling and rope_parameters (which transformers 5 writes).
// max_positions: of the model. INVALID_ARGUMENT names key, rule and value.
absl::StatusOr<RopeConfig> ReadRopeConfig(const ConfigSection& config, const Family& family,
                                          Index head_dim, Index max_positions);

}  // namespace attnprune

#endif  // ATTNPRUNE_CORE_MODEL_ROPE_CONFIG_H_
