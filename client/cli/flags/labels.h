// The labels of jobs: as flags, and those that the command line itself gives.
#ifndef ATTNPRUNE_CLIENT_CLI_FLAGS_LABELS_H_
#define ATTNPRUNE_CLIENT_CLI_FLAGS_LABELS_H_

#include <google/protobuf/map.h>

#include <string>
#include <vector>

#include "absl/status/status.h"

namespace attnprune::cli {

using Labels = google::protobuf::Map<std::string, std::string>;

// Adds each "KEY=VALUE" to *labels. INVALID_ARGUMENT names --label and the text.
absl::Status ParseLabels(const std::vector<std::string>& texts, Labels* labels);

// The file or folder that a job's weights came from: `fetch` copies the rest of it.
inline constexpr char kWeightsLabel[] = "attnprune/weights";
// The layer of --model.
inline constexpr char kLayerLabel[] = "attnprune/layer";

}  // namespace attnprune::cli

#endif  // ATTNPRUNE_CLIENT_CLI_FLAGS_LABELS_H_
