#include "server/queue/job_news.h"

#include <algorithm>

namespace attnprune {

void JobNews::Turn::Take(const std::string& job_id) {
  job_id_ = job_id;
  taken_ = true;
  const MutexLock lock(&news_->mutex_);
  news_->turns_[job_id].push_back(this);
}

void JobNews::Turn::Drop() {
  if (!taken_) return;
  taken_ = false;
  {
    const MutexLock lock(&news_->mutex_);
    const auto turns = news_->turns_.find(job_id_);
    std::erase(turns->second, this);
    if (turns->second.empty()) news_->turns_.erase(turns);
  }
  news_->dropped_.NotifyAll();
}

bool JobNews::IsFirst(const Turn& turn) const {
  return turns_.find(turn.job_id_)->second.front() == &turn;
}

void JobNews::Tell(Turn& turn, const PostCommit& post_commit) {
  {
    const MutexLock lock(&mutex_);
    if (turn.taken_) {
      dropped_.Wait(&mutex_, [&]() ABSL_NO_THREAD_SAFETY_ANALYSIS { return IsFirst(turn); });
    }
    if (listener_ != nullptr) {
      const std::string& id = post_commit.job_id;
      if (!post_commit.events.empty()) listener_->OnEvents(id, post_commit.events);
      if (post_commit.cancel_requested) listener_->OnCancelRequested(id);
      if (post_commit.part_opened) listener_->OnPartOpened(id);
    }
  }
  turn.Drop();
}

void JobNews::TellChanges(absl::Span<const JobChange> changes) {
  const MutexLock lock(&mutex_);
  if (listener_ == nullptr) return;
  for (const JobChange& change : changes) listener_->OnRemoteChange(change);
}

}  // namespace attnprune
