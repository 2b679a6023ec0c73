#include "server/access/sessions.h"

#include <utility>

#include "core/base/status_macros.h"
#include "server/access/tokens.h"

namespace attnprune::access {

absl::StatusOr<std::string> Sessions::Begin(const std::string& token_hash) {
  ATTNPRUNE_ASSIGN_OR_RETURN(std::string id, NewToken());
  const MutexLock lock(&mutex_);
  MakeRoom(token_hash);
  sessions_[HashOfToken(id)] = {token_hash, clock_->Now()};
  return id;
}

// Looks at all of them: there are few, and logging in is rare.
void Sessions::MakeRoom(const std::string& token_hash) {
  std::erase_if(sessions_, [this](const auto& entry) { return IsOver(entry.second); });
  auto oldest = sessions_.end(), oldest_of_token = sessions_.end();
  size_t of_token = 0;
  const auto take_older = [none = sessions_.end()](auto& oldest_yet, auto session) {
    const bool older = oldest_yet == none || session->second.begin < oldest_yet->second.begin;
    if (older) oldest_yet = session;
  };
  for (auto session = sessions_.begin(); session != sessions_.end(); ++session) {
    take_older(oldest, session);
    if (session->second.token_hash != token_hash) continue;
    ++of_token;
    take_older(oldest_of_token, session);
  }
  if (of_token >= limits_.max_per_token) {
    sessions_.erase(oldest_of_token);
  } else if (sessions_.size() >= limits_.max_sessions) {
    sessions_.erase(oldest);
  }
}

std::string Sessions::TokenHashOf(absl::string_view id) const {
  const MutexLock lock(&mutex_);
  const auto found = sessions_.find(HashOfToken(id));
  if (found == sessions_.end() || IsOver(found->second)) return "";
  return found->second.token_hash;
}

void Sessions::End(absl::string_view id) {
  const MutexLock lock(&mutex_);
  sessions_.erase(HashOfToken(id));
}

size_t Sessions::size() const {
  const MutexLock lock(&mutex_);
  return sessions_.size();
}

}  // namespace attnprune::access
