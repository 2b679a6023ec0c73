// Temporary keys of a role, for a token that a file has: those of EKS's service accounts (IRSA).
#ifndef ATTNPRUNE_SERVER_OBJECTS_WEB_IDENTITY_H_
#define ATTNPRUNE_SERVER_OBJECTS_WEB_IDENTITY_H_

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/optional.h"
#include "server/objects/s3_keys.h"

namespace attnprune {

// Immutable and thread-safe.
class WebIdentity {
 public:
  // By AWS_WEB_IDENTITY_TOKEN_FILE, AWS_ROLE_ARN and AWS_ROLE_SESSION_NAME ("attnprune"), from the
  // STS of AWS_ENDPOINT_URL_STS, else of AWS_REGION or AWS_DEFAULT_REGION, else the one of all
  // regions. nullopt: the first is not given. INVALID_ARGUMENT (blobs): the second is not, or the
  // endpoint is another machine's without https.
  static absl::StatusOr<absl::optional<WebIdentity>> FromEnvironment();

  // Reads the file, which changes, and asks (AssumeRoleWithWebIdentity). UNAVAILABLE: there is no
  // token, nobody answers, or the answer has no keys; the message has the address and STS's code,
  // and nothing of the token. Waits for the network, some seconds at most.
  absl::StatusOr<S3Keys> Fetch() const;
  const std::string& endpoint() const { return endpoint_; }

 private:
  std::string endpoint_, role_, session_, token_file_;
};

// The keys of STS's answer. INVALID_ARGUMENT: one is missing, or is no word. Pure.
absl::StatusOr<S3Keys> ParseWebIdentityKeys(absl::string_view xml);

}  // namespace attnprune

#endif  // ATTNPRUNE_SERVER_OBJECTS_WEB_IDENTITY_H_
