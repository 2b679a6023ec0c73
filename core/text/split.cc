#include "core/text/split.h"

#include <array>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/types/optional.h"
#include "core/base/status_macros.h"
#include "core/io/messages.h"

namespace attnprune {
namespace {

constexpr std::array<std::pair<const char*, SplitBehavior>, 5> kBehaviors = {{
    {"Isolated", SplitBehavior::kIsolated},
    {"Removed", SplitBehavior::kRemoved},
    {"MergedWithPrevious", SplitBehavior::kMergedWithPrevious},
    {"MergedWithNext", SplitBehavior::kMergedWithNext},
    {"Contiguous", SplitBehavior::kContiguous},
}};

// Joins matches and the gaps between them as a behaviour says. One part is held back until what
// follows it is known.
class PieceJoiner {
 public:
  PieceJoiner(absl::string_view text, SplitBehavior behavior, PieceSink sink)
      : text_(text), behavior_(behavior), sink_(sink) {}

  absl::Status Add(ByteRange part, bool is_match) {
    if (Joins(is_match)) {
      held_.end = part.end;
    } else {
      ATTNPRUNE_RETURN_IF_ERROR(Finish());
      held_ = part;
    }
    last_is_match_ = is_match;
    return absl::OkStatus();
  }

  absl::Status Finish() {
    if (held_.begin == held_.end) return absl::OkStatus();
    if (behavior_ == SplitBehavior::kRemoved && last_is_match_) return absl::OkStatus();
    return sink_(text_.substr(held_.begin, held_.end - held_.begin));
  }

 private:
  bool Joins(bool is_match) const {
    switch (behavior_) {
      case SplitBehavior::kIsolated:
      case SplitBehavior::kRemoved:
        return false;
      case SplitBehavior::kMergedWithPrevious:
        return is_match && !last_is_match_;
      case SplitBehavior::kMergedWithNext:
        return !is_match && last_is_match_;
      case SplitBehavior::kContiguous:
        return is_match == last_is_match_;
    }
    return false;
  }

  const absl::string_view text_;
  const SplitBehavior behavior_;
  const PieceSink sink_;
  ByteRange held_;  // empty at the start
  bool last_is_match_ = false;
};

}  // namespace

absl::StatusOr<SplitBehavior> ParseSplitBehavior(const JsonNode& name) {
  for (const auto& [text, behavior] : kBehaviors) {
    if (name.Is(text)) return behavior;
  }
  return name.Must("be Isolated, Removed, MergedWithPrevious, MergedWithNext or Contiguous");
}

absl::StatusOr<Regex> ParsePattern(const JsonNode& pattern) {
  ATTNPRUNE_RETURN_IF_ERROR(pattern.CheckObject());
  const bool literal = !pattern["String"].IsNull();
  if (literal == !pattern["Regex"].IsNull()) return pattern.Must("have either Regex or String");
  const absl::string_view key = literal ? "String" : "Regex";
  ATTNPRUNE_ASSIGN_OR_RETURN(const std::string text, pattern[key].String());
  absl::StatusOr<Regex> regex = literal ? Regex::Literal(text) : Regex::Compile(text);
  if (regex.ok()) return regex;
  return Refuse(pattern[key].name(), " ", regex.status().message());
}

absl::Status Split::ForEachPiece(absl::string_view text, PieceSink sink) const {
  PieceJoiner joiner(text, behavior, sink);
  RegexMatches matches(pattern, text);
  size_t end = 0;
  while (true) {
    ATTNPRUNE_ASSIGN_OR_RETURN(const absl::optional<ByteRange> match, matches.Next());
    if (!match.has_value()) break;
    if (match->begin > end) ATTNPRUNE_RETURN_IF_ERROR(joiner.Add({end, match->begin}, invert));
    ATTNPRUNE_RETURN_IF_ERROR(joiner.Add(*match, !invert));
    end = match->end;
  }
  if (end < text.size()) ATTNPRUNE_RETURN_IF_ERROR(joiner.Add({end, text.size()}, invert));
  return joiner.Finish();
}

}  // namespace attnprune
