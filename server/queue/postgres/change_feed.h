// What other servers have changed in a job database.
#ifndef ATTNPRUNE_SERVER_QUEUE_POSTGRES_CHANGE_FEED_H_
#define ATTNPRUNE_SERVER_QUEUE_POSTGRES_CHANGE_FEED_H_

#include <functional>
#include <string>
#include <thread>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "absl/types/optional.h"
#include "core/base/mutex.h"
#include "server/queue/job_rows.h"
#include "server/queue/postgres/connection.h"

namespace attnprune::postgres {

struct ChangeFeedOptions {
  absl::Duration poll_interval = absl::Milliseconds(250);
  std::function<void(absl::string_view text)> on_warning;
};

// A thread with a connection of its own. It looks for changed jobs at every notification and,
// because one may be lost and a pooler passes none on, at every poll_interval; each look takes up
// where the one before ended, so nothing is missed. Notifications are sent here too, beside the
// transactions: those that notify would commit one after the other. Thread-safe.
class ChangeFeed {
 public:
  ChangeFeed(StoreUrl url, ChangeFeedOptions options);
  ~ChangeFeed();
  ChangeFeed(const ChangeFeed&) = delete;
  ChangeFeed& operator=(const ChangeFeed&) = delete;

  // Where the first look takes up: at what is committed by now. Before Start.
  absl::Status SetBegin(Connection& connection);
  void Start(const ChangeFollower& follower);  // once

  // Something was committed here: other servers are to look.
  void Announce();

  // UNAVAILABLE: the database did not answer the last look, or has not answered one for 5 s.
  absl::Status status() const;

 private:
  void Loop();
  void Wake() const;
  // Until there is something to do: a notification, an announcement, the end of the interval.
  void Await(absl::Duration at_most);
  absl::Status Look();
  absl::Status Connect();
  absl::Status SendAnnouncement();
  absl::Status ReadChanges();
  bool stopping() const;

  const StoreUrl url_;
  const ChangeFeedOptions options_;
  ChangeFollower follower_;  // set before the thread starts
  int wake_fd_;

  // The thread's.
  absl::optional<Connection> connection_;
  bool listens_ = false;
  bool has_warned_ = false;
  std::string cursor_;  // transactions from here on may not have been seen

  mutable Mutex mutex_;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  bool announce_ ABSL_GUARDED_BY(mutex_) = false;
  absl::Status status_ ABSL_GUARDED_BY(mutex_);
  absl::Time asked_ ABSL_GUARDED_BY(mutex_) = absl::InfiniteFuture();  // while it has no answer

  std::thread thread_;
};

}  // namespace attnprune::postgres

#endif  // ATTNPRUNE_SERVER_QUEUE_POSTGRES_CHANGE_FEED_H_
