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

// Of --sampled-rows: "off", "on" or a count, with ":temperature=1,prefix=4" behind the two last.
struct SampledFlag {
  std::optional<int> rows;  // nullopt: on, as many as are missing to kEnoughRows
  v1::SampledRows how;      // without its rows
};
inline constexpr int kEnoughRows = 256;
absl::StatusOr<SampledFlag> ParseSampledFlag(const std::string& text);

}  // namespace attnprune::cli

#endif  // ATTNPRUNE_CLIENT_CLI_FLAGS_LOSS_FLAGS_H_
