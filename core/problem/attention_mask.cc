#include "core/problem/attention_mask.h"

#include <algorithm>
#include <charconv>

#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "absl/types/optional.h"
#include "core/base/field_error.h"
#include "core/problem/shape_check.h"

namespace attnprune {
namespace {

// The whole text as a decimal number; nothing if it is anything else or does not fit.
absl::optional<Index> ParseSize(absl::string_view text) {
  Index size = 0;
  const char* end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, size);
  if (error != std::errc() || stop != end) return absl::nullopt;
  return size;
}

absl::Status RefusedMask(absl::string_view text) {
  return MustError("attention", "be causal, full, block:B or window:B with B >= 1", text);
}

}  // namespace

AttentionMask::Range AttentionMask::Keys(Index i, Index n) const {
  switch (kind) {
    case Kind::kCausal:
      break;
    case Kind::kFull:
      return {0, n};
    case Kind::kBlock:
      return {i - i % size, i + 1};
    case Kind::kWindow:
      return {std::max<Index>(0, i - size + 1), i + 1};
  }
  return {0, i + 1};
}

absl::StatusOr<AttentionMask> ParseAttentionMask(absl::string_view text) {
  if (text == "causal") return AttentionMask{AttentionMask::Kind::kCausal};
  if (text == "full") return AttentionMask{AttentionMask::Kind::kFull};
  AttentionMask mask;
  absl::string_view digits = text;
  if (absl::ConsumePrefix(&digits, "block:")) {
    mask.kind = AttentionMask::Kind::kBlock;
  } else if (absl::ConsumePrefix(&digits, "window:")) {
    mask.kind = AttentionMask::Kind::kWindow;
  } else {
    return RefusedMask(text);
  }
  const absl::optional<Index> size = ParseSize(digits);
  if (!size.has_value()) return RefusedMask(text);
  mask.size = *size;
  if (!Validate(mask).ok()) return RefusedMask(text);
  return mask;
}

std::string ToString(const AttentionMask& mask) {
  switch (mask.kind) {
    case AttentionMask::Kind::kCausal:
      break;
    case AttentionMask::Kind::kFull:
      return "full";
    case AttentionMask::Kind::kBlock:
      return absl::StrCat("block:", mask.size);
    case AttentionMask::Kind::kWindow:
      return absl::StrCat("window:", mask.size);
  }
  return "causal";
}

}  // namespace attnprune
