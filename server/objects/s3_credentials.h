// The keys with which requests to S3 are signed.
#ifndef ATTNPRUNE_SERVER_OBJECTS_S3_CREDENTIALS_H_
#define ATTNPRUNE_SERVER_OBJECTS_S3_CREDENTIALS_H_

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "core/base/mutex.h"

namespace attnprune {

struct S3Keys {
  std::string id, secret, session_token;  // the last may be empty
};

// Lines "aws_access_key_id = …", "aws_secret_access_key = …" and, for temporary keys,
// "aws_session_token = …", as in ~/.aws/credentials; what else is there is passed over.
// INVALID_ARGUMENT: one of the first two is missing; no message has any of the text.
absl::StatusOr<S3Keys> ParseS3Keys(absl::string_view text);

// Thread-safe.
class S3Credentials {
 public:
  // file: see ParseS3Keys; empty: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN of
  // the environment. INVALID_ARGUMENT naming blobs_credentials_file or blobs.
  static absl::StatusOr<S3Credentials> Load(const std::string& file);
  S3Credentials(S3Credentials&& other) noexcept;

  // A file that has changed is read again; while it will not do, the keys before stay.
  S3Keys Get();

 private:
  S3Credentials(std::string file, S3Keys keys);

  const std::string file_;
  Mutex mutex_;
  S3Keys keys_ ABSL_GUARDED_BY(mutex_);
  absl::Time read_ ABSL_GUARDED_BY(mutex_) = absl::InfinitePast();  // its time of change
};

}  // namespace attnprune

#endif  // ATTNPRUNE_SERVER_OBJECTS_S3_CREDENTIALS_H_
