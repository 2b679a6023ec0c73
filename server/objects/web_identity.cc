#include "server/objects/web_identity.h"

#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "core/base/field_error.h"
#include "core/base/status_macros.h"
#include "server/objects/environment.h"
#include "server/objects/s3_xml.h"
#include "server/objects/small_http.h"
#include "server/objects/temporary_keys.h"

namespace attnprune {
namespace {

std::string StsEndpoint() {
  std::string given = EnvironmentOf("AWS_ENDPOINT_URL_STS");
  if (!given.empty()) return given;
  std::string region = EnvironmentOf("AWS_REGION");
  if (region.empty()) region = EnvironmentOf("AWS_DEFAULT_REGION");
  if (region.empty()) return "https://sts.amazonaws.com";
  return absl::StrCat("https://sts.", region, ".amazonaws.com",
                      absl::StartsWith(region, "cn-") ? ".cn" : "");
}

}  // namespace

absl::StatusOr<absl::optional<WebIdentity>> WebIdentity::FromEnvironment() {
  WebIdentity identity;
  identity.token_file_ = EnvironmentOf("AWS_WEB_IDENTITY_TOKEN_FILE");
  if (identity.token_file_.empty()) return absl::nullopt;
  identity.role_ = EnvironmentOf("AWS_ROLE_ARN");
  if (identity.role_.empty()) {
    return FieldError("blobs",
                      "must have AWS_ROLE_ARN beside AWS_WEB_IDENTITY_TOKEN_FILE, got none");
  }
  identity.session_ = EnvironmentOf("AWS_ROLE_SESSION_NAME");
  if (identity.session_.empty()) identity.session_ = "attnprune";
  identity.endpoint_ = StsEndpoint();
  if (MayAskForKeys(identity.endpoint_)) return identity;
  return MustError("blobs", "have AWS_ENDPOINT_URL_STS of this machine or https",
                   absl::StrCat("\"", identity.endpoint_, "\""));
}

absl::StatusOr<S3Keys> WebIdentity::Fetch() const {
  const absl::StatusOr<std::string> token = ReadToken(token_file_);
  if (!token.ok()) {
    return absl::UnavailableError(
        absl::StrCat("AWS_WEB_IDENTITY_TOKEN_FILE: ", token.status().message()));
  }
  const SmallRequest request{.url = endpoint_,
                             .form = {{"Action", "AssumeRoleWithWebIdentity"},
                                      {"Version", "2011-06-15"},
                                      {"RoleArn", role_},
                                      {"RoleSessionName", session_},
                                      {"WebIdentityToken", *token}}};
  ATTNPRUNE_ASSIGN_OR_RETURN(const SmallAnswer answer, FetchSmall(request));
  if (answer.http != 200) {
    const std::string code = S3Word(XmlText(answer.body, "Code"));
    return absl::UnavailableError(
        absl::StrCat(endpoint_, " answers ", answer.http, code.empty() ? "" : " ", code));
  }
  absl::StatusOr<S3Keys> keys = ParseWebIdentityKeys(answer.body);
  if (!keys.ok()) return GivesNoKeys(request);
  return keys;
}

absl::StatusOr<S3Keys> ParseWebIdentityKeys(absl::string_view xml) {
  const std::string keys = XmlText(xml, "Credentials"), token = XmlText(keys, "SessionToken");
  if (token.empty()) return absl::InvalidArgumentError("must have SessionToken");
  return MakeTemporaryKeys(XmlText(keys, "AccessKeyId"), XmlText(keys, "SecretAccessKey"), token,
                           XmlText(keys, "Expiration"));
}

}  // namespace attnprune
