// Texts and token files as the rows that a model runs on.
#ifndef ATTNPRUNE_CLIENT_CLI_FILES_TOKEN_INPUT_H_
#define ATTNPRUNE_CLIENT_CLI_FILES_TOKEN_INPUT_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "client/cli/flags/token_flags.h"
#include "core/model/model_options.h"
#include "core/model/tokens.h"

namespace attnprune::cli {

struct TokenInput {
  TokenRows rows;
  // Of a text: its tokens, one BOS included, and its bytes. 0: token ids were given.
  int64_t text_tokens = 0, text_bytes = 0;
  std::vector<std::string> notes;
};

// Windows drawn at random: calibration. folder: of the model, which has the tokenizer.
absl::StatusOr<TokenInput> ReadSamples(const TokenFlags& flags, const std::string& folder,
                                       const ModelOptions& model);
// All windows from the start, without overlap; the rest is dropped: perplexity.
absl::StatusOr<TokenInput> ReadWindows(const TokenFlags& flags, const std::string& folder,
                                       const ModelOptions& model);

// The tokens of a window: the flag's, or 2048, or less where the model has fewer positions.
int64_t SequenceLength(const TokenFlags& flags, const ModelOptions& model);

}  // namespace attnprune::cli

#endif  // ATTNPRUNE_CLIENT_CLI_FILES_TOKEN_INPUT_H_
