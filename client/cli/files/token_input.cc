#include "client/cli/files/token_input.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "core/text/corpus.h"
#include "core/text/samples.h"
#include "core/text/tokenizer.h"

namespace attnprune::cli {
namespace {

// What the scripts of SparseGPT and Wanda put between documents.
constexpr char kBetweenSamples[] = " ";
constexpr char kBetweenWindows[] = "\n\n";

struct EncodedText {
  std::vector<int32_t> ids;
  int64_t bytes = 0;
};

absl::StatusOr<EncodedText> Encode(const std::string& path, absl::string_view separator,
                                   const std::string& folder) {
  ATTNPRUNE_ASSIGN_OR_RETURN(const Tokenizer tokenizer, Tokenizer::Open(folder));
  ATTNPRUNE_ASSIGN_OR_RETURN(const std::string text, ReadCorpus(path, separator));
  EncodedText out;
  out.bytes = static_cast<int64_t>(text.size());
  ATTNPRUNE_ASSIGN_OR_RETURN(out.ids, tokenizer.Encode(text));
  return out;
}

TokenInput FromWindows(const TokenWindows& windows, const EncodedText& text,
                       const ModelOptions& model) {
  TokenInput input;
  if (windows.length > model.max_positions) {
    input.notes.push_back(absl::StrCat("--sequence-length ", windows.length, " is above the ",
                                       model.max_positions,
                                       " positions that config.json gives the model"));
  }
  input.rows = RowsOfTokens({windows.ids.begin(), windows.ids.end()}, windows.length);
  input.text_tokens = static_cast<int64_t>(text.ids.size());
  input.text_bytes = text.bytes;
  return input;
}

absl::StatusOr<TokenInput> ReadTokens(const std::string& path) {
  TokenInput input;
  ATTNPRUNE_ASSIGN_OR_RETURN(input.rows, ReadTokenFile(path));
  return input;
}

absl::Status OfText(const absl::Status& status, const std::string& path) {
  return absl::Status(status.code(), absl::StrCat(path, ": ", status.message()));
}

}  // namespace

int64_t SequenceLength(const TokenFlags& flags, const ModelOptions& model) {
  if (flags.sequence_length > 0) return flags.sequence_length;
  return std::min<int64_t>(kSequenceLength, model.max_positions);
}

absl::StatusOr<TokenInput> ReadSamples(const TokenFlags& flags, const std::string& folder,
                                       const ModelOptions& model) {
  if (!flags.tokens.empty()) return ReadTokens(flags.tokens);
  ATTNPRUNE_ASSIGN_OR_RETURN(const EncodedText text, Encode(flags.text, kBetweenSamples, folder));
  const absl::StatusOr<TokenWindows> windows = SampleWindows(
      text.ids,
      {.samples = flags.samples, .length = SequenceLength(flags, model), .seed = flags.seed});
  if (!windows.ok()) return OfText(windows.status(), flags.text);
  return FromWindows(*windows, text, model);
}

absl::StatusOr<TokenInput> ReadWindows(const TokenFlags& flags, const std::string& folder,
                                       const ModelOptions& model) {
  if (!flags.tokens.empty()) return ReadTokens(flags.tokens);
  ATTNPRUNE_ASSIGN_OR_RETURN(const EncodedText text, Encode(flags.text, kBetweenWindows, folder));
  const absl::StatusOr<TokenWindows> windows =
      ConsecutiveWindows(text.ids, SequenceLength(flags, model));
  if (!windows.ok()) return OfText(windows.status(), flags.text);
  return FromWindows(*windows, text, model);
}

}  // namespace attnprune::cli
