// tokenizer.json's normalizer: what is done to text before it is cut into words.
#ifndef ATTNPRUNE_CORE_TEXT_NORMALIZER_H_
#define ATTNPRUNE_CORE_TEXT_NORMALIZER_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "core/text/json_node.h"

namespace attnprune {

// NFC, NFD, NFKC, NFKD, Prepend, Replace, Lowercase, Strip and Sequences of them. Move-only;
// immutable, so any number of threads may use it.
class Normalizer {
 public:
  class Step;

  // Null: leaves text as it is. INVALID_ARGUMENT names the key at fault, such as an unsupported
  // type.
  static absl::StatusOr<Normalizer> Parse(const JsonNode& normalizer);

  Normalizer();
  Normalizer(Normalizer&&) noexcept;
  Normalizer& operator=(Normalizer&&) noexcept;
  ~Normalizer();

  // Well-formed UTF-8 to well-formed UTF-8. INVALID_ARGUMENT: an expression cannot be matched, or
  // the text grows more than 64-fold.
  absl::StatusOr<std::string> Apply(absl::string_view text) const;

 private:
  absl::Status Add(const JsonNode& normalizer);

  std::vector<std::unique_ptr<const Step>> steps_;  // one after the other
};

}  // namespace attnprune

#endif  // ATTNPRUNE_CORE_TEXT_NORMALIZER_H_
