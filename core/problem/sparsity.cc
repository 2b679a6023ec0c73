#include "core/problem/sparsity.h"

#include <charconv>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "core/base/field_error.h"
#include "core/base/format.h"
#include "core/problem/shape_check.h"

namespace attnprune {
namespace {

// Reads the whole text, locale or not, without white space or sign but '-'.
template <typename Number>
bool ParseWhole(absl::string_view text, Number* number) {
  const char* end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, *number);
  return error == std::errc() && stop == end;
}

bool ParseSyntax(absl::string_view text, Sparsity* sparsity) {
  const size_t colon = text.find(':');
  if (colon == absl::string_view::npos) {
    *sparsity = Sparsity::Fraction(0);
    return ParseWhole(text, &sparsity->fraction);
  }
  *sparsity = Sparsity::NOfM(0, 0);
  return ParseWhole(text.substr(0, colon), &sparsity->pruned) &&
         ParseWhole(text.substr(colon + 1), &sparsity->group);
}

absl::Status RefusedSparsity(absl::string_view text) {
  return MustError("sparsity", "be a fraction in [0, 1), or N:M with 0 <= N < M and M >= 2", text);
}

}  // namespace

Index Sparsity::PrunedOf(Index size) const {
  if (structured()) return size / group * pruned;
  return static_cast<Index>(std::floor(fraction * static_cast<double>(size)));
}

absl::StatusOr<Sparsity> ParseSparsity(absl::string_view text) {
  Sparsity sparsity;
  if (!ParseSyntax(text, &sparsity)) return RefusedSparsity(text);
  // "0:0" would otherwise pass for an unstructured sparsity of 0.
  const bool group_missing = text.find(':') != absl::string_view::npos && !sparsity.structured();
  if (group_missing || !Validate(sparsity).ok()) return RefusedSparsity(text);
  return sparsity;
}

std::string ToString(const Sparsity& sparsity) {
  if (sparsity.structured()) return absl::StrCat(sparsity.pruned, ":", sparsity.group);
  return FormatNumber(sparsity.fraction);
}

}  // namespace attnprune
