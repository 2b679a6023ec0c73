#include "core/io/messages.h"

#include <cstddef>
#include <system_error>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"

namespace attnprune {
namespace {

constexpr size_t kLongestQuote = 160;

bool IsContinuationByte(char c) { return (static_cast<unsigned char>(c) & 0xC0) == 0x80; }

}  // namespace

std::string Quoted(absl::string_view text) {
  if (text.size() <= kLongestQuote) return absl::StrCat("'", absl::Utf8SafeCEscape(text), "'");
  size_t end = kLongestQuote;
  while (end > 0 && IsContinuationByte(text[end])) --end;
  return absl::StrCat("'", absl::Utf8SafeCEscape(text.substr(0, end)), "...'");
}

absl::Status Annotate(const absl::Status& status, absl::string_view prefix) {
  if (status.ok()) return status;
  return absl::Status(status.code(), absl::StrCat(prefix, ": ", status.message()));
}

absl::Status ErrnoError(int error, absl::string_view path, absl::string_view doing) {
  return absl::Status(absl::ErrnoToStatusCode(error),
                      absl::StrCat(path, ": cannot ", doing, ": ",
                                   std::error_code(error, std::generic_category()).message()));
}

}  // namespace attnprune
