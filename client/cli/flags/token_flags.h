// The flags that say which tokens a model is run on.
#ifndef ATTNPRUNE_CLIENT_CLI_FLAGS_TOKEN_FLAGS_H_
#define ATTNPRUNE_CLIENT_CLI_FLAGS_TOKEN_FLAGS_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "client/cli/flags/command_line.h"
#include "core/model/layer_forward.h"

namespace attnprune::cli {

struct TokenFlags {
  std::string text, tokens;     // files; one of them
  int64_t samples = 128;        // windows of a text
  int64_t sequence_length = 0;  // tokens of a window; 0: kSequenceLength, or what the model can
  uint64_t seed = 0;            // of the samples
  std::string compute = "f32";  // or "bf16"

  bool given() const { return !text.empty() || !tokens.empty(); }
};

inline constexpr int64_t kSequenceLength = 2048;

// --text, --tokens, --sequence-length.
void AddTextFlags(Command& command, TokenFlags& flags);
// The same and --compute: for commands that run the model.
void AddTokenFlags(Command& command, TokenFlags& flags);
// --samples: for commands that draw calibration windows.
void AddSampleFlags(Command& command, TokenFlags& flags);

// --threads, --memory-budget: of a pass over a model on this machine.
void AddPassFlags(Command& command, int& threads, int64_t& memory_budget);
// As many as there are cores where `threads` is 0.
int ThreadsOr(int threads);

Compute ComputeOf(const TokenFlags& flags);

// INVALID_ARGUMENT unless exactly one file is named.
absl::Status CheckTokenFlags(const TokenFlags& flags);

}  // namespace attnprune::cli

#endif  // ATTNPRUNE_CLIENT_CLI_FLAGS_TOKEN_FLAGS_H_
