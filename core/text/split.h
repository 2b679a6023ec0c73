// Cutting text at an expression's matches: the rule behind most pre_tokenizers
// (tokenizers' SplitDelimiterBehavior).
#ifndef ATTNPRUNE_CORE_TEXT_SPLIT_H_
#define ATTNPRUNE_CORE_TEXT_SPLIT_H_

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "core/text/json_node.h"
#include "core/text/regex.h"

namespace attnprune {

enum class SplitBehavior {
  kIsolated,            // a match is a piece
  kRemoved,             // a match is no piece
  kMergedWithPrevious,  // a match ends the piece before it, unless that is a match
  kMergedWithNext,      // a match begins the piece after it, unless that is a match
  kContiguous           // matches that touch are one piece
};

// "Isolated", ...; INVALID_ARGUMENT names the key.
absl::StatusOr<SplitBehavior> ParseSplitBehavior(const JsonNode& name);

// {"Regex": ...} or {"String": ...}; INVALID_ARGUMENT names the key.
absl::StatusOr<Regex> ParsePattern(const JsonNode& pattern);

// Given one piece; an error ends the work and becomes its result.
using PieceSink = absl::FunctionRef<absl::Status(absl::string_view piece)>;

// Move-only; immutable.
struct Split {
  Regex pattern;
  SplitBehavior behavior = SplitBehavior::kIsolated;
  bool invert = false;  // what lies between matches counts as the matches

  // Calls sink with each piece that is not empty, a view of text, from left to right.
  absl::Status ForEachPiece(absl::string_view text, PieceSink sink) const;
};

}  // namespace attnprune

#endif  // ATTNPRUNE_CORE_TEXT_SPLIT_H_
