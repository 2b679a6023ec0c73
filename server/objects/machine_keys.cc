#include "server/objects/machine_keys.h"

#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"
#include "core/base/field_error.h"
#include "core/base/status_macros.h"
#include "core/io/strict_json.h"
#include "server/objects/environment.h"
#include "server/objects/small_http.h"
#include "server/objects/temporary_keys.h"

namespace attnprune {
namespace {

constexpr char kInstanceEndpoint[] = "http://169.254.169.254";
constexpr char kContainerEndpoint[] = "http://169.254.170.2";
constexpr char kRolesPath[] = "/latest/meta-data/iam/security-credentials/";
constexpr char kTokenLife[] = "X-aws-ec2-metadata-token-ttl-seconds: 300";

// The body of what must have been answered by 200.
absl::StatusOr<std::string> FetchText(const SmallRequest& request) {
  ATTNPRUNE_ASSIGN_OR_RETURN(SmallAnswer answer, FetchSmall(request));
  if (answer.http == 200) return std::move(answer.body);
  return absl::UnavailableError(absl::StrCat(request.url, " answers ", answer.http));
}

absl::StatusOr<S3Keys> FetchKeys(const SmallRequest& request) {
  ATTNPRUNE_ASSIGN_OR_RETURN(const std::string json, FetchText(request));
  absl::StatusOr<S3Keys> keys = ParseMachineKeys(json);
  if (!keys.ok()) return GivesNoKeys(request);
  return keys;
}

}  // namespace

absl::StatusOr<S3Keys> ParseMachineKeys(absl::string_view json) {
  ATTNPRUNE_ASSIGN_OR_RETURN(const nlohmann::json object, ParseStrictJson(json, 4));
  const auto word = [&object](const char* name) {
    const auto found = object.find(name);
    const bool text = found != object.end() && found->is_string();
    return text ? found->get<std::string>() : "";
  };
  return MakeTemporaryKeys(word("AccessKeyId"), word("SecretAccessKey"), word("Token"),
                           word("Expiration"));
}

absl::StatusOr<absl::optional<MachineKeys>> MachineKeys::FromEnvironment() {
  MachineKeys keys;
  ATTNPRUNE_ASSIGN_OR_RETURN(keys.web_, WebIdentity::FromEnvironment());
  if (keys.web_.has_value()) return keys;
  const std::string relative = EnvironmentOf("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI");
  const std::string full = EnvironmentOf("AWS_CONTAINER_CREDENTIALS_FULL_URI");
  if (!relative.empty() || !full.empty()) {
    keys.container_ = true;
    keys.url_ = relative.empty() ? full : absl::StrCat(kContainerEndpoint, relative);
    if (!MayAskForKeys(keys.url_)) {
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
  if (web_.has_value()) return web_->Fetch();
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
  if (IsKeyWord(token)) request.headers.push_back(absl::StrCat("Authorization: ", token));
  return FetchKeys(request);
}

// Version 2 of the service alone: a token first, then the name of the machine's role.
absl::StatusOr<S3Keys> MachineKeys::FetchInstances() const {
  ATTNPRUNE_ASSIGN_OR_RETURN(
      const std::string token,
      FetchText(
          {.url = absl::StrCat(url_, "/latest/api/token"), .headers = {kTokenLife}, .put = true}));
  SmallRequest request{.url = absl::StrCat(url_, kRolesPath)};
  if (!IsKeyWord(token)) return GivesNoKeys(request);
  request.headers = {absl::StrCat("X-aws-ec2-metadata-token: ", token)};
  ATTNPRUNE_ASSIGN_OR_RETURN(const std::string roles, FetchText(request));
  const absl::string_view role =
      absl::StripAsciiWhitespace(absl::string_view(roles).substr(0, roles.find('\n')));
  if (!IsKeyWord(role) || absl::StrContains(role, '/')) return GivesNoKeys(request);
  absl::StrAppend(&request.url, role);
  return FetchKeys(request);
}

}  // namespace attnprune
