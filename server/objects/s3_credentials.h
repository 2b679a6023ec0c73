// Where the keys of S3 come from: a file, the environment, or the machine's own address for them.
#ifndef ATTNPRUNE_SERVER_OBJECTS_S3_CREDENTIALS_H_
#define ATTNPRUNE_SERVER_OBJECTS_S3_CREDENTIALS_H_

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/optional.h"
#include "core/base/clock.h"
#include "core/base/mutex.h"
#include "server/objects/machine_keys.h"
#include "server/objects/s3_keys.h"

namespace attnprune {

// Lines "aws_access_key_id = …", "aws_secret_access_key = …" and, for temporary keys,
// "aws_session_token = …", as in ~/.aws/credentials; what else is there is passed over.
// INVALID_ARGUMENT: one of the first two is missing; no message has any of the text.
absl::StatusOr<S3Keys> ParseS3Keys(absl::string_view text);

// Thread-safe.
class S3Credentials {
 public:
  // file: see ParseS3Keys; empty: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN of
  // the environment, else MachineKeys. INVALID_ARGUMENT naming blobs_credentials_file or blobs.
  // clock: outlives this; null: the real one.
  static absl::StatusOr<S3Credentials> Load(const std::string& file, const Clock* clock = nullptr);
  S3Credentials(S3Credentials&& other) noexcept;  // that was not asked before

  // A file is read each time; while it will not do, the keys before stay. A machine's
  // keys are fetched anew from 5 minutes before they end; UNAVAILABLE: they have ended and there
  // are no others.
  absl::StatusOr<S3Keys> Get();

 private:
  S3Credentials(std::string file, absl::optional<MachineKeys> machine, S3Keys keys,
                const Clock* clock);

  static absl::StatusOr<S3Credentials> LoadOfMachine(const Clock* clock);
  S3Keys TakeKeys();
  absl::Status FetchAgain() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const std::string file_;
  const absl::optional<MachineKeys> machine_;
  const Clock* const clock_;
  Mutex mutex_;
  S3Keys keys_ ABSL_GUARDED_BY(mutex_);
  // Of a machine's keys: when they may be fetched again, and why they could not be.
  absl::Time next_fetch_ ABSL_GUARDED_BY(mutex_) = absl::InfinitePast();
  absl::Status fetched_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace attnprune

#endif  // ATTNPRUNE_SERVER_OBJECTS_S3_CREDENTIALS_H_
