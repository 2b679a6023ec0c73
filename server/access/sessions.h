// The page's logins: random ids that stand for a token, in memory only.
#ifndef ATTNPRUNE_SERVER_ACCESS_SESSIONS_H_
#define ATTNPRUNE_SERVER_ACCESS_SESSIONS_H_

#include <cstddef>
#include <string>
#include <unordered_map>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "core/base/clock.h"
#include "core/base/mutex.h"

namespace attnprune::access {

struct SessionLimits {
  size_t max_sessions = 10'000;  // of all tokens together; above that the oldest ends
  size_t max_per_token = 100;    // likewise
  absl::Duration lifetime = absl::Hours(12);
};

// Thread-safe. A session holds only as long as its token does: who is found here is looked up in
// the token file at every request.
class Sessions {
 public:
  explicit Sessions(const Clock* clock, const SessionLimits& limits = {})
      : clock_(clock), limits_(limits) {}  // clock must outlive it

  // A new one for the token of that hash; its id, as random as a token. INTERNAL: of NewToken.
  absl::StatusOr<std::string> Begin(const std::string& token_hash);
  // The token's hash; empty: there is no such session, or it is over.
  std::string TokenHashOf(absl::string_view id) const;
  void End(absl::string_view id);
  size_t size() const;

 private:
  struct Session {
    std::string token_hash;
    absl::Time begin;
  };

  bool IsOver(const Session& session) const {
    return clock_->Now() - session.begin >= limits_.lifetime;
  }
  void MakeRoom(const std::string& token_hash) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const Clock* const clock_;
  const SessionLimits limits_;
  mutable Mutex mutex_;
  // By the hash of the id, so that finding one takes no longer the more of it is right.
  std::unordered_map<std::string, Session> sessions_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace attnprune::access

#endif  // ATTNPRUNE_SERVER_ACCESS_SESSIONS_H_
