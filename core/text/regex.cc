#include "core/text/regex.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <limits>
#include <string>

#include "absl/strings/match.h"
#include "core/base/status_macros.h"
#include "core/io/messages.h"
#include "core/text/unicode.h"

namespace attnprune {
namespace {

// Steps from one place in the text. \s*[\r\n]+ takes one for each space of a run.
constexpr size_t kMostSteps = 1'000'000;
constexpr size_t kMostStepsAByte = 16;
constexpr uint32_t kMostMemoryKib = 64 * 1024;  // of the interpreter's backtracking

// What Ruby's syntax has another meaning for.
constexpr std::array<const char*, 2> kReadOtherwise = {"&&", "\\h"};

std::string Reason(int code) {
  std::array<PCRE2_UCHAR, 160> text{};
  pcre2_get_error_message(code, text.data(), text.size());
  return reinterpret_cast<const char*>(text.data());
}

PCRE2_SPTR Units(absl::string_view text) { return reinterpret_cast<PCRE2_SPTR>(text.data()); }

}  // namespace

absl::StatusOr<Regex> Regex::Compile(absl::string_view pattern) {
  for (const char* text : kReadOtherwise) {
    if (absl::StrContains(pattern, text)) {
      return Refuse("must not have ", text, ", which PCRE2 reads otherwise, got ", Quoted(pattern));
    }
  }
  return CompileAs(pattern, PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C);
}

absl::StatusOr<Regex> Regex::Literal(absl::string_view text) {
  if (text.empty()) return Refuse("must not be empty");
  return CompileAs(text, PCRE2_LITERAL);
}

absl::StatusOr<Regex> Regex::CompileAs(absl::string_view pattern, uint32_t options) {
  const std::unique_ptr<pcre2_compile_context, decltype(&pcre2_compile_context_free)> context(
      pcre2_compile_context_create(nullptr), pcre2_compile_context_free);
  pcre2_set_newline(context.get(), PCRE2_NEWLINE_LF);
  int error = 0;
  PCRE2_SIZE offset = 0;
  Regex regex;
  regex.code_.reset(pcre2_compile(Units(pattern), pattern.size(), options | PCRE2_UTF, &error,
                                  &offset, context.get()));
  if (regex.code_ == nullptr) {
    return Refuse("must be a regular expression that PCRE2 reads, got ", Quoted(pattern), " (",
                  Reason(error), " at byte ", offset, ")");
  }
  pcre2_jit_compile(regex.code_.get(), PCRE2_JIT_COMPLETE);  // without it matching only is slower
  return regex;
}

RegexMatches::RegexMatches(const Regex& regex, absl::string_view text)
    : regex_(regex),
      text_(text),
      data_(pcre2_match_data_create_from_pattern(regex.code_.get(), nullptr)),
      limits_(pcre2_match_context_create(nullptr)) {
  constexpr size_t kMost = std::numeric_limits<uint32_t>::max();
  pcre2_set_match_limit(limits_.get(), static_cast<uint32_t>(std::min(
                                           kMostSteps + kMostStepsAByte * text.size(), kMost)));
  pcre2_set_heap_limit(limits_.get(), kMostMemoryKib);
}

absl::StatusOr<absl::optional<ByteRange>> RegexMatches::Next() {
  while (from_ <= text_.size()) {
    ATTNPRUNE_ASSIGN_OR_RETURN(const absl::optional<ByteRange> match, Find());
    if (!match.has_value()) break;
    const bool again = match->begin == match->end && last_end_ == match->end;
    from_ = last_end_.emplace(match->end);
    if (!again) return match;
    from_ += from_ < text_.size() ? CharacterLength(text_[from_]) : 1;
  }
  from_ = text_.size() + 1;
  return absl::optional<ByteRange>();
}

absl::StatusOr<absl::optional<ByteRange>> RegexMatches::Find() {
  const auto match = [&](uint32_t options) {
    return pcre2_match(regex_.code_.get(), Units(text_), text_.size(), from_,
                       options | PCRE2_NO_UTF_CHECK, data_.get(), limits_.get());
  };
  int found = match(0);
  if (found == PCRE2_ERROR_JIT_STACKLIMIT) found = match(PCRE2_NO_JIT);
  if (found == PCRE2_ERROR_NOMATCH) return absl::optional<ByteRange>();
  if (found < 0) {
    return Refuse("the text cannot be matched from byte ", from_, " on: ", Reason(found));
  }
  const PCRE2_SIZE* ends = pcre2_get_ovector_pointer(data_.get());
  if (ends[0] < from_ || ends[1] < ends[0]) {  // \K in a lookaround or a recursion
    return Refuse("a match at byte ", from_, " begins after its end");
  }
  return absl::optional<ByteRange>({ends[0], ends[1]});
}

}  // namespace attnprune
