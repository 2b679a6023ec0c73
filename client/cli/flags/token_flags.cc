#include "client/cli/flags/token_flags.h"

#include <algorithm>
#include <thread>

namespace attnprune::cli {

void AddTextFlags(Command& command, TokenFlags& flags) {
  command.Add("--text", flags.text,
              "Text to run the model on: .txt, or .jsonl with a field text; needs the model's "
              "tokenizer.json",
              {.type = "FILE"});
  command.Add("--tokens", flags.tokens,
              "Token ids instead, a row a sequence: .npy of whole numbers (k, n), or a tensor of a "
              ".safetensors file, by default `tokens`; an attention_mask beside it, 0 and 1 with "
              "the ones of a row side by side, leaves padding out",
              {.type = "FILE[:NAME]", .excludes = "--text"});
  command.Add("--sequence-length", flags.sequence_length,
              "Tokens of a window that a text is cut into; 0: 2048, or what the model can",
              {.show_default = true, .between = {{0, 1 << 24}}});
}

void AddTokenFlags(Command& command, TokenFlags& flags) {
  AddTextFlags(command, flags);
  command.Add("--compute", flags.compute,
              "Products of the model's linear maps: bf16 is faster where the CPU has it "
              "(AVX512-BF16), and rounded more; all else is float32",
              {.show_default = true, .one_of = {"f32", "bf16"}});
}

void AddSampleFlags(Command& command, TokenFlags& flags) {
  command.Add("--samples", flags.samples,
              "Windows drawn of a text, as SparseGPT and Wanda draw them, by --seed",
              {.show_default = true, .between = {{1, 1 << 20}}});
}

void AddPassFlags(Command& command, int& threads, int64_t& memory_budget) {
  command.Add("--threads", threads, "That run the model; 0: one a core",
              {.show_default = true, .between = {{0, 1024}}});
  command.Add("--memory-budget", memory_budget,
              "Memory for hidden states, such as 2GiB; more of them are in a temporary file; 0: no "
              "limit",
              {.type = "BYTES", .default_text = "0", .bytes = true, .at_least = 0});
}

Compute ComputeOf(const TokenFlags& flags) {
  return flags.compute == "bf16" ? Compute::kBf16 : Compute::kFloat32;
}

int ThreadsOr(int threads) {
  const auto cores = static_cast<int>(std::thread::hardware_concurrency());
  return threads > 0 ? threads : std::max(cores, 1);
}

absl::Status CheckTokenFlags(const TokenFlags& flags) {
  if (flags.sequence_length == 1) {
    return absl::InvalidArgumentError(
        "--sequence-length must be 0 or at least 2: a token alone predicts nothing, got 1");
  }
  if (flags.text.empty() != flags.tokens.empty()) return absl::OkStatus();
  return absl::InvalidArgumentError("one of --text FILE and --tokens FILE is required");
}

}  // namespace attnprune::cli
