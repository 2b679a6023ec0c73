// Temporary keys of a cloud's machine, container or service account, from the address for them.
#ifndef ATTNPRUNE_SERVER_OBJECTS_MACHINE_KEYS_H_
#define ATTNPRUNE_SERVER_OBJECTS_MACHINE_KEYS_H_

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/optional.h"
#include "server/objects/s3_keys.h"
#include "server/objects/web_identity.h"

namespace attnprune {

// Immutable and thread-safe.
class MachineKeys {
 public:
  // Which address, by the variables that AWS's own programs know, the first that is given:
  //   AWS_WEB_IDENTITY_TOKEN_FILE  STS's (WebIdentity)
  //   AWS_CONTAINER_CREDENTIALS_RELATIVE_URI, AWS_CONTAINER_CREDENTIALS_FULL_URI  a container's
  //     (ECS, EKS's pod identities), with AWS_CONTAINER_AUTHORIZATION_TOKEN or the text of the file
  //     ..._TOKEN_FILE; http:// only of this machine or link-local
  //   AWS_EC2_METADATA_SERVICE_ENDPOINT  the instance's (IMDSv2); by default http://169.254.169.254
  // nullopt: AWS_EC2_METADATA_DISABLED is "true" and there is no container's. INVALID_ARGUMENT
  // (blobs): an address of another machine without https.
  static absl::StatusOr<absl::optional<MachineKeys>> FromEnvironment();

  // UNAVAILABLE: nobody answers, or the answer has no keys; the message has the address and nothing
  // of the answer. Waits for the network, some seconds at most.
  absl::StatusOr<S3Keys> Fetch() const;

 private:
  absl::StatusOr<S3Keys> FetchContainers() const;
  absl::StatusOr<S3Keys> FetchInstances() const;

  absl::optional<WebIdentity> web_;
  std::string url_;  // of a container's keys, or the instance's endpoint
  bool container_ = false;
  std::string token_, token_file_;  // for a container's
};

// The keys of an answer, {"AccessKeyId", "SecretAccessKey", "Token", "Expiration"}, an RFC 3339
// time. INVALID_ARGUMENT: one of the first two is missing, or is no word. Pure.
absl::StatusOr<S3Keys> ParseMachineKeys(absl::string_view json);

}  // namespace attnprune

#endif  // ATTNPRUNE_SERVER_OBJECTS_MACHINE_KEYS_H_
