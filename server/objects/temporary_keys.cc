#include "server/objects/temporary_keys.h"

#include <algorithm>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "core/base/status_macros.h"
#include "core/io/file.h"

namespace attnprune {
namespace {

constexpr int64_t kMostTokenBytes = 16 << 10;

}  // namespace

bool IsKeyWord(absl::string_view text) {
  return !text.empty() && std::all_of(text.begin(), text.end(), [](char c) {
    return absl::ascii_isgraph(static_cast<unsigned char>(c));
  });
}

bool MayAskForKeys(absl::string_view url) {
  if (!absl::ConsumePrefix(&url, "http://")) return absl::StartsWith(url, "https://");
  const absl::string_view place = url.substr(0, url.find('/'));
  if (absl::StrContains(place, '@')) return false;  // the host is what follows
  const bool six = absl::StartsWith(place, "[");
  const absl::string_view host =
      six ? place.substr(0, place.find(']') + 1) : place.substr(0, place.find(':'));
  for (const char* const near :
       {"127.0.0.1", "localhost", "[::1]", "169.254.170.2", "169.254.170.23", "[fd00:ec2::23]"}) {
    if (host == near) return true;
  }
  return false;
}

absl::StatusOr<std::string> ReadToken(const std::string& path) {
  ATTNPRUNE_ASSIGN_OR_RETURN(const File file, File::OpenForReading(path));
  ATTNPRUNE_ASSIGN_OR_RETURN(const int64_t size, file.Size());
  std::string text(static_cast<size_t>(std::min(size, kMostTokenBytes)), '\0');
  ATTNPRUNE_RETURN_IF_ERROR(file.ReadAt(0, absl::MakeSpan(text)));
  return std::string(absl::StripAsciiWhitespace(text));
}

absl::StatusOr<S3Keys> MakeTemporaryKeys(std::string id, std::string secret, std::string token,
                                         const std::string& expires) {
  S3Keys keys{.id = std::move(id), .secret = std::move(secret), .session_token = std::move(token)};
  const bool whole = IsKeyWord(keys.id) && IsKeyWord(keys.secret) &&
                     (keys.session_token.empty() || IsKeyWord(keys.session_token));
  const bool timed =
      expires.empty() || absl::ParseTime(absl::RFC3339_full, expires, &keys.expires, nullptr);
  if (whole && timed) return keys;
  return absl::InvalidArgumentError("must have AccessKeyId and SecretAccessKey");
}

absl::Status GivesNoKeys(const SmallRequest& request) {
  return absl::UnavailableError(absl::StrCat(request.url, " gives no keys"));
}

}  // namespace attnprune
