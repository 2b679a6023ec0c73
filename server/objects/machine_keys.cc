#include "server/objects/machine_keys.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"
#include "core/base/field_error.h"
#include "core/base/status_macros.h"
#include "core/io/file.h"
#include "core/io/strict_json.h"
#include "server/objects/environment.h"
#include "server/objects/small_http.h"

namespace attnprune {
namespace {

constexpr char kInstanceEndpoint[] = "http://169.254.169.254";
constexpr char kContainerEndpoint[] = "http://169.254.170.2";
constexpr char kRolesPath[] = "/latest/meta-data/iam/security-credentials/";
constexpr char kTokenLife[] = "X-aws-ec2-metadata-token-ttl-seconds: 300";
constexpr int64_t kMostTokenBytes = 16 << 10;

bool IsWord(absl::string_view text) {
  return !text.empty() && std::all_of(text.begin(), text.end(), [](char c) {
    return absl::ascii_isgraph(static_cast<unsigned char>(c));
  });
}

// Keys may be asked for in plain text on this machine and its own link only.
bool IsNear(absl::string_view url) {
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

absl::Status NoKeys(const std::string& url) {
  return absl::UnavailableError(absl::StrCat(url, " gives no keys"));
}

// The body of what must have been answered by 200.
absl::StatusOr<std::string> FetchText(const SmallRequest& request) {
  ATTNPRUNE_ASSIGN_OR_RETURN(SmallAnswer answer, FetchSmall(request));
  if (answer.http == 200) return std::move(answer.body);
  return absl::UnavailableError(absl::StrCat(request.url, " answers ", answer.http));
}

absl::StatusOr<S3Keys> FetchKeys(const SmallRequest& request) {
  ATTNPRUNE_ASSIGN_OR_RETURN(const std::string json, FetchText(request));
  absl::StatusOr<S3Keys> keys = ParseMachineKeys(json);
  if (!keys.ok()) return NoKeys(request.url);
  return keys;
}

absl::StatusOr<std::string> ReadToken(const std::string& path) {
  ATTNPRUNE_ASSIGN_OR_RETURN(const File file, File::OpenForReading(path));
  ATTNPRUNE_ASSIGN_OR_RETURN(const int64_t size, file.Size());
  std::string text(static_cast<size_t>(std::min(size, kMostTokenBytes)), '\0');
  ATTNPRUNE_RETURN_IF_ERROR(file.ReadAt(0, absl::MakeSpan(text)));
  return std::string(absl::StripAsciiWhitespace(text));
}

}  // namespace

absl::StatusOr<S3Keys> ParseMachineKeys(absl::string_view json) {
  ATTNPRUNE_ASSIGN_OR_RETURN(const nlohmann::json object, ParseStrictJson(json, 4));
  const auto word = [&object](const char* name) {
    const auto found = object.find(name);
    const bool text = found != object.end() && found->is_string();
    return text ? found->get<std::string>() : "";
  };
  S3Keys keys{.id = word("AccessKeyId"), .secret = word("SecretAccessKey")};
  keys.session_token = word("Token");
  const bool whole = IsWord(keys.id) && IsWord(keys.secret) &&
                     (keys.session_token.empty() || IsWord(keys.session_token));
  const std::string expires = word("Expiration");
  const bool timed =
      expires.empty() || absl::ParseTime(absl::RFC3339_full, expires, &keys.expires, nullptr);
  if (whole && timed) return keys;
  return absl::InvalidArgumentError("must have AccessKeyId and SecretAccessKey");
}

absl::StatusOr<absl::optional<MachineKeys>> MachineKeys::FromEnvironment() {
  MachineKeys keys;
  const std::string relative = EnvironmentOf("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI");
  const std::string full = EnvironmentOf("AWS_CONTAINER_CREDENTIALS_FULL_URI");
  if (!relative.empty() || !full.empty()) {
    keys.container_ = true;
    keys.url_ = relative.empty() ? full : absl::StrCat(kContainerEndpoint, relative);
    if (!IsNear(keys.url_)) {
      return MustError("blobs", "have AWS_CONTAINER_CREDENTIALS_FULL_URI of this machine or https",
                       absl::StrCat("\"", keys.url_, "\""));
    }
    keys.token_ = EnvironmentOf("AWS_CONTAINER_AUTHORIZATION_TOKEN");
    keys.token_file_ = EnvironmentOf("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE");
    return keys;
  }
  if (EnvironmentOf("AWS_EC2_METADATA_DISABLED") == "true") return absl::nullopt;
  keys.url_ = EnvironmentOf("AWS_EC2_METADATA_SERVICE_ENDPOINT");
  if (keys.url_.empty()) keys.url_ = kInstanceEndpoint;
  keys.url_ = std::string(absl::StripSuffix(keys.url_, "/"));
  return keys;
}

absl::StatusOr<S3Keys> MachineKeys::Fetch() const {
  return container_ ? FetchContainers() : FetchInstances();
}

absl::StatusOr<S3Keys> MachineKeys::FetchContainers() const {
  std::string token = token_;
  if (!token_file_.empty()) {
    absl::StatusOr<std::string> read = ReadToken(token_file_);
    if (!read.ok()) {
      return absl::UnavailableError(
          absl::StrCat("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE: ", read.status().message()));
    }
    token = *std::move(read);
  }
  SmallRequest request{.url = url_};
  if (IsWord(token)) request.headers.push_back(absl::StrCat("Authorization: ", token));
  return FetchKeys(request);
}

// Version 2 of the service alone: a token first, then the name of the machine's role.
absl::StatusOr<S3Keys> MachineKeys::FetchInstances() const {
  ATTNPRUNE_ASSIGN_OR_RETURN(
      const std::string token,
      FetchText(
          {.url = absl::StrCat(url_, "/latest/api/token"), .headers = {kTokenLife}, .put = true}));
  const std::string roles_url = absl::StrCat(url_, kRolesPath);
  if (!IsWord(token)) return NoKeys(roles_url);
  const std::vector<std::string> headers = {absl::StrCat("X-aws-ec2-metadata-token: ", token)};
  ATTNPRUNE_ASSIGN_OR_RETURN(const std::string roles,
                             FetchText({.url = roles_url, .headers = headers}));
  const absl::string_view role =
      absl::StripAsciiWhitespace(absl::string_view(roles).substr(0, roles.find('\n')));
  if (!IsWord(role) || absl::StrContains(role, '/')) return NoKeys(roles_url);
  return FetchKeys({.url = absl::StrCat(roles_url, role), .headers = headers});
}

}  // namespace attnprune
