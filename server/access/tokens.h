// Tokens, and the file that says whose they are:
//
//   # a comment
//   <sha256 of the token, 64 lower-case hexadecimal digits> <tenant> <role> [<name>]
//   9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08 vision submitter ci
//
// Words are separated by single spaces, lines end in "\n". Only hashes are kept: a token is 256
// random bits, which no search finds again.
#ifndef ATTNPRUNE_SERVER_ACCESS_TOKENS_H_
#define ATTNPRUNE_SERVER_ACCESS_TOKENS_H_

#include <cstddef>
#include <string>
#include <unordered_map>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "server/access/caller.h"

namespace attnprune::access {

inline constexpr size_t kMaxTokenFileBytes = size_t{1} << 20;

// Immutable.
class TokenTable {
 public:
  // INVALID_ARGUMENT "line 3: …" with rule and value: 1 to 63 characters [a-z0-9-] of a tenant and
  // [A-Za-z0-9._-] of a name, a hash that is there once. A value is quoted only where it cannot be
  // a token that was put into the file by mistake.
  static absl::StatusOr<TokenTable> Parse(absl::string_view text);

  // nullptr: no line has this hash.
  const Caller* Find(const std::string& token_hash) const;
  size_t size() const { return callers_.size(); }

 private:
  std::unordered_map<std::string, Caller> callers_;  // by hash
};

// "atp_" and 256 bits of the system's randomness in base64url, 47 characters. INTERNAL: it has
// none.
absl::StatusOr<std::string> NewToken();
// As the file has it. Of a text longer than any token the empty string, which no line has.
std::string HashOfToken(absl::string_view token);
// A line of the file, with its end. INVALID_ARGUMENT naming `tenant` or `name`.
absl::StatusOr<std::string> TokenLine(absl::string_view token_hash, const Caller& caller);

// INVALID_ARGUMENT: larger than kMaxTokenFileBytes; otherwise the system's error.
absl::StatusOr<std::string> ReadTokenFile(const std::string& path);

// Adds a line to the file, whole or not at all, and on disk when it returns OK; a file that is not
// there is made with mode 0600, another keeps mode and owner. One call at a time on a folder waits
// for the other. Errors: of TokenTable::Parse where the file would not be one, and the system's.
absl::Status AppendToTokenFile(const std::string& path, absl::string_view line);

}  // namespace attnprune::access

#endif  // ATTNPRUNE_SERVER_ACCESS_TOKENS_H_
