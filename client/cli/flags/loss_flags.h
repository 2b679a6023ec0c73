// The flags of what a run does by the model's own loss.
#ifndef ATTNPRUNE_CLIENT_CLI_FLAGS_LOSS_FLAGS_H_
#define ATTNPRUNE_CLIENT_CLI_FLAGS_LOSS_FLAGS_H_

#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "attnprune/v1/run.pb.h"

namespace attnprune::cli {

// "on" or "on:rows=64,labels=COUNT,widest=2048"; nullopt: "off". INVALID_ARGUMENT names
// --curvature.
absl::StatusOr<std::optional<v1::Curvature>> ParseCurvatureFlag(const std::string& text);

// "on" or "on:steps=200,rows=4,rate=0.01"; nullopt: "off". INVALID_ARGUMENT names the flag.
absl::StatusOr<std::optional<v1::Training>> ParseTrainingFlag(const std::string& flag,
                                                              const std::string& text);

}  // namespace attnprune::cli

#endif  // ATTNPRUNE_CLIENT_CLI_FLAGS_LOSS_FLAGS_H_
