// Regular expressions over UTF-8, by PCRE2 with Unicode properties and its compiler.
//
// tokenizer.json's expressions are written for Oniguruma (Ruby's syntax). PCRE2 reads those of all
// known tokenisers alike; ^ and $ match at every line as they do there. What it would read
// otherwise is refused. \s differs at U+180E, which PCRE2 takes for white space.
#ifndef ATTNPRUNE_CORE_TEXT_REGEX_H_
#define ATTNPRUNE_CORE_TEXT_REGEX_H_

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <cstddef>
#include <memory>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/optional.h"

namespace attnprune {

struct ByteRange {
  size_t begin = 0;
  size_t end = 0;
};

// Move-only; immutable, so any number of threads may match with it.
class Regex {
 public:
  // INVALID_ARGUMENT with PCRE2's reason and the offset in the pattern, which is well-formed UTF-8.
  static absl::StatusOr<Regex> Compile(absl::string_view pattern);
  // Matches `text` itself. INVALID_ARGUMENT: it is empty.
  static absl::StatusOr<Regex> Literal(absl::string_view text);

 private:
  friend class RegexMatches;
  struct Delete {
    void operator()(pcre2_code* code) const { pcre2_code_free(code); }
  };
  static absl::StatusOr<Regex> CompileAs(absl::string_view pattern, uint32_t options);

  std::unique_ptr<pcre2_code, Delete> code_;
};

// The matches in `text` from left to right, none overlapping; a match may be empty, but not where
// the one before it ends. One thread; regex and text outlive it.
class RegexMatches {
 public:
  RegexMatches(const Regex& regex, absl::string_view text);

  // The next one; nullopt after the last. INVALID_ARGUMENT, with the place in the text: the
  // expression needs more steps (16 a byte of the text and a million) or memory (64 MiB) there.
  absl::StatusOr<absl::optional<ByteRange>> Next();

 private:
  struct Delete {
    void operator()(pcre2_match_data* data) const { pcre2_match_data_free(data); }
    void operator()(pcre2_match_context* limits) const { pcre2_match_context_free(limits); }
  };
  absl::StatusOr<absl::optional<ByteRange>> Find();

  const Regex& regex_;
  const absl::string_view text_;
  const std::unique_ptr<pcre2_match_data, Delete> data_;
  const std::unique_ptr<pcre2_match_context, Delete> limits_;
  size_t from_ = 0;
  absl::optional<size_t> last_end_;
};

}  // namespace attnprune

#endif  // ATTNPRUNE_CORE_TEXT_REGEX_H_
