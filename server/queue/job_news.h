// Tells a store's listener what was committed: of each job in order, though writers run in
// parallel.
#ifndef ATTNPRUNE_SERVER_QUEUE_JOB_NEWS_H_
#define ATTNPRUNE_SERVER_QUEUE_JOB_NEWS_H_

#include <deque>
#include <map>
#include <string>

#include "absl/types/span.h"
#include "core/base/mutex.h"
#include "server/queue/job_edit.h"
#include "server/queue/job_store.h"

namespace attnprune {

// Thread-safe.
class JobNews {
 public:
  explicit JobNews(JobStoreListener* listener) : listener_(listener) {}

  // A writer's turn to tell, of one job. Taken before its commit: as the job changes by no other
  // transaction until that, turns are in the order of commits. Not thread-safe.
  class Turn {
   public:
    explicit Turn(JobNews* news) : news_(news) {}
    ~Turn() { Drop(); }
    Turn(const Turn&) = delete;
    Turn& operator=(const Turn&) = delete;

    void Take(const std::string& job_id);  // once, until it is dropped
    void Drop();

   private:
    friend class JobNews;
    JobNews* const news_;
    std::string job_id_;
    bool taken_ = false;
  };

  void SetListener(JobStoreListener* listener) {
    const MutexLock lock(&mutex_);
    listener_ = listener;
  }

  // Waits for the turns before this one, of the same job, and drops it.
  void Tell(Turn& turn, const PostCommit& post_commit);
  void TellChanges(absl::Span<const JobChange> changes);

 private:
  bool IsFirst(const Turn& turn) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  Mutex mutex_;
  CondVar dropped_;
  std::map<std::string, std::deque<const Turn*>> turns_ ABSL_GUARDED_BY(mutex_);  // by job
  JobStoreListener* listener_ ABSL_GUARDED_BY(mutex_);                            // nullptr: none
};

}  // namespace attnprune

#endif  // ATTNPRUNE_SERVER_QUEUE_JOB_NEWS_H_
