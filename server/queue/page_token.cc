#include "server/queue/page_token.h"

#include <cstring>

#include "absl/strings/escaping.h"
#include "core/base/field_error.h"
#include "server/queue/checksum.h"

namespace attnprune {
namespace {

struct Token {
  int64_t filter, number, checksum;
};
static_assert(sizeof(Token) == 24);

int64_t HashOf(const JobFilter& filter) {
  Checksum hash;
  for (const JobState state : filter.states) hash.AddInteger(static_cast<int64_t>(state));
  for (const auto& [key, value] : filter.labels) hash.AddText(key).AddText(value);
  return hash.Value();
}

int64_t HashOf(const Token& token) {
  return Checksum().AddInteger(token.filter).AddInteger(token.number).Value();
}

}  // namespace

std::string EncodePageToken(const JobFilter& filter, int64_t last_number) {
  Token token = {HashOf(filter), last_number, 0};
  token.checksum = HashOf(token);
  std::string bytes(sizeof token, '\0');
  std::memcpy(bytes.data(), &token, sizeof token);
  return absl::WebSafeBase64Escape(bytes);
}

absl::StatusOr<int64_t> DecodePageToken(const JobFilter& filter, absl::string_view text) {
  std::string bytes;
  Token token = {};
  if (absl::WebSafeBase64Unescape(text, &bytes) && bytes.size() == sizeof token) {
    std::memcpy(&token, bytes.data(), sizeof token);
    if (token.checksum == HashOf(token)) {
      if (token.filter == HashOf(filter)) return token.number;
      return FieldError("page_token", "must be used with the filter of the page it came with");
    }
  }
  return FieldError("page_token", "must be one that the server gave");
}

}  // namespace attnprune
