// Credentials that follow their files: exchanged on disk, they are used for new connections, and
// those that are open go on.
#ifndef ATTNPRUNE_SERVER_TLS_LIVE_CREDENTIALS_H_
#define ATTNPRUNE_SERVER_TLS_LIVE_CREDENTIALS_H_

#include <memory>
#include <string>
#include <thread>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "core/base/clock.h"
#include "core/base/mutex.h"
#include "server/tls/credentials.h"

namespace attnprune::tls {

struct LiveCredentialsOptions {
  CredentialFiles files;
  absl::Duration interval = absl::Seconds(2);  // of real time between two looks at the files
  const Clock* clock = nullptr;                // tells what has expired; required
};

// Thread-safe. A thread looks at the files from construction to destruction. Logs a line when it
// has taken new files (tls.reload), when it cannot (tls.reload_failed: the ones before stay; once a
// reason) and when the certificate is not valid today (tls.validity).
class LiveCredentials {
 public:
  // The errors of ReadTexts and MakeCredentials.
  static absl::StatusOr<std::unique_ptr<LiveCredentials>> Open(
      const LiveCredentialsOptions& options);
  LiveCredentials(const LiveCredentialsOptions& options,
                  std::shared_ptr<const Credentials> credentials);
  ~LiveCredentials();

  std::shared_ptr<const Credentials> current() const;
  // What the thread does at the end of each interval.
  void Look();

 private:
  void Loop();
  bool StopsWithin(absl::Duration wait);
  absl::StatusOr<std::shared_ptr<const Credentials>> Read() const;
  void Take(const absl::StatusOr<std::shared_ptr<const Credentials>>& read)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(looking_);
  void TellValidity() ABSL_EXCLUSIVE_LOCKS_REQUIRED(looking_);

  const LiveCredentialsOptions options_;
  mutable Mutex mutex_;
  CondVar wake_;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::shared_ptr<const Credentials> current_ ABSL_GUARDED_BY(mutex_);
  Mutex looking_;  // held by one Look at a time
  std::string told_failure_ ABSL_GUARDED_BY(looking_), told_validity_ ABSL_GUARDED_BY(looking_);
  std::jthread thread_;
};

}  // namespace attnprune::tls

#endif  // ATTNPRUNE_SERVER_TLS_LIVE_CREDENTIALS_H_
