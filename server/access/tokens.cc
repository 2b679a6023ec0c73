#include "server/access/tokens.h"

#include <sys/random.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "core/base/field_error.h"
#include "core/base/status_macros.h"
#include "core/io/messages.h"
#include "core/io/sha256.h"

namespace attnprune::access {
namespace {

constexpr absl::string_view kTokenPrefix = "atp_";
constexpr size_t kTokenBytes = 32, kLongestToken = 256, kLongestWord = 63, kHashDigits = 64;

bool IsHash(absl::string_view text) {
  return text.size() == kHashDigits && std::all_of(text.begin(), text.end(), [](unsigned char c) {
           return absl::ascii_isdigit(c) || (c >= 'a' && c <= 'f');
         });
}

bool IsTenant(absl::string_view text) {
  return !text.empty() && text.size() <= kLongestWord &&
         std::all_of(text.begin(), text.end(), [](unsigned char c) {
           return absl::ascii_isdigit(c) || absl::ascii_islower(c) || c == '-';
         });
}

bool IsName(absl::string_view text) {
  return text.size() <= kLongestWord && std::all_of(text.begin(), text.end(), [](unsigned char c) {
           return absl::ascii_isalnum(c) || c == '.' || c == '_' || c == '-';
         });
}

absl::Status CheckCaller(absl::string_view tenant, absl::string_view name) {
  if (!IsTenant(tenant)) {
    return MustError("tenant", absl::StrCat("be 1 to ", kLongestWord, " characters [a-z0-9-]"),
                     Quoted(tenant));
  }
  if (IsName(name)) return absl::OkStatus();
  return MustError("name", absl::StrCat("be at most ", kLongestWord, " characters [A-Za-z0-9._-]"),
                   Quoted(name));
}

struct Line {
  std::string hash;
  Caller caller;
};

absl::StatusOr<Line> ParseLine(absl::string_view text) {
  const std::vector<absl::string_view> words = absl::StrSplit(text, ' ');
  if (words.size() < 3 || words.size() > 4) {
    return MustError("a line", "be \"HASH TENANT ROLE [NAME]\" with single spaces",
                     absl::StrCat(words.size(), " words"));
  }
  if (!IsHash(words[0])) {
    return MustError("the hash", absl::StrCat("be ", kHashDigits, " digits 0-9a-f"),
                     absl::StrCat(words[0].size(), " characters that are none"));
  }
  const absl::optional<Role> role = ParseRole(words[2]);
  if (!role.has_value()) {
    return MustError("the role", "be reader, submitter or admin", Quoted(words[2]));
  }
  const absl::string_view name = words.size() == 4 ? words[3] : "";
  if (words.size() == 4 && name.empty()) return FieldError("name", "must not be empty");
  ATTNPRUNE_RETURN_IF_ERROR(CheckCaller(words[1], name));
  return Line{std::string(words[0]), {std::string(words[1]), *role, std::string(name)}};
}

absl::Status AtLine(size_t number, const absl::Status& status) {
  return Annotate(status, absl::StrCat("line ", number));
}

}  // namespace

absl::StatusOr<TokenTable> TokenTable::Parse(absl::string_view text) {
  if (text.size() > kMaxTokenFileBytes) {
    return MustError("the file", absl::StrCat("have at most ", kMaxTokenFileBytes, " bytes"),
                     text.size());
  }
  TokenTable table;
  std::unordered_map<std::string, size_t> lines;
  absl::ConsumeSuffix(&text, "\n");
  size_t number = 0;
  for (const absl::string_view line : absl::StrSplit(text, '\n')) {
    ++number;
    if (line.empty() || line[0] == '#') continue;
    absl::StatusOr<Line> parsed = ParseLine(line);
    if (!parsed.ok()) return AtLine(number, parsed.status());
    const auto [first, is_new] = lines.emplace(parsed->hash, number);
    if (!is_new) {
      return AtLine(number,
                    FieldError("the hash", absl::StrCat("must be there once, got it in line ",
                                                        first->second, " too")));
    }
    table.callers_.emplace(std::move(parsed->hash), std::move(parsed->caller));
  }
  return table;
}

const Caller* TokenTable::Find(const std::string& token_hash) const {
  const auto found = callers_.find(token_hash);
  return found == callers_.end() ? nullptr : &found->second;
}

absl::StatusOr<std::string> NewToken() {
  std::array<char, kTokenBytes> bytes;
  if (getrandom(bytes.data(), bytes.size(), 0) != static_cast<ssize_t>(bytes.size())) {
    return absl::InternalError("the system gives no random bytes");
  }
  std::string text;
  absl::WebSafeBase64Escape(absl::string_view(bytes.data(), bytes.size()), &text);
  return absl::StrCat(kTokenPrefix, absl::StripSuffix(text, "="));
}

std::string HashOfToken(absl::string_view token) {
  if (token.empty() || token.size() > kLongestToken) return "";
  return Sha256Of(absl::MakeConstSpan(token.data(), token.size()));
}

absl::StatusOr<std::string> TokenLine(absl::string_view token_hash, const Caller& caller) {
  ATTNPRUNE_RETURN_IF_ERROR(CheckCaller(caller.tenant, caller.name));
  return absl::StrCat(token_hash, " ", caller.tenant, " ", ToString(caller.role),
                      caller.name.empty() ? "" : " ", caller.name, "\n");
}

}  // namespace attnprune::access
