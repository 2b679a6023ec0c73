// tokenizer.json's pre_tokenizer: cuts normalised text into the words that the model sees.
#ifndef ATTNPRUNE_CORE_TEXT_PRE_TOKENIZER_H_
#define ATTNPRUNE_CORE_TEXT_PRE_TOKENIZER_H_

#include <memory>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "core/text/json_node.h"
#include "core/text/split.h"

namespace attnprune {

// Split, ByteLevel, Digits, Punctuation, Metaspace and Sequences of them. Move-only; immutable, so
// any number of threads may use it.
class PreTokenizer {
 public:
  class Step;

  // Null: the whole text is one word. INVALID_ARGUMENT names the key at fault: an unsupported type,
  // a second ByteLevel or Metaspace.
  static absl::StatusOr<PreTokenizer> Parse(const JsonNode& pre_tokenizer);

  PreTokenizer();
  PreTokenizer(PreTokenizer&&) noexcept;
  PreTokenizer& operator=(PreTokenizer&&) noexcept;
  ~PreTokenizer();

  // Calls sink with each word, which lives as long as the call, from left to right; none is empty.
  // text is well-formed UTF-8. at_start: it begins the whole text, before which no token was cut
  // out. Words are not collected: memory does not grow with their number. Errors: the sink's own,
  // and INVALID_ARGUMENT where an expression cannot be matched.
  absl::Status ForEachWord(absl::string_view text, bool at_start, PieceSink sink) const;

 private:
  absl::Status Add(const JsonNode& pre_tokenizer);
  absl::Status Run(size_t step, absl::string_view text, bool at_start, PieceSink sink) const;

  std::vector<std::unique_ptr<const Step>> steps_;  // each cuts the pieces of the one before
  bool has_byte_level_ = false;
  bool has_metaspace_ = false;
};

}  // namespace attnprune

#endif  // ATTNPRUNE_CORE_TEXT_PRE_TOKENIZER_H_
