// What is new in a job's log, read and decoded once for all who watch it. No gRPC.
#ifndef ATTNPRUNE_SERVER_API_LIVE_FEED_H_
#define ATTNPRUNE_SERVER_API_LIVE_FEED_H_

#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "attnprune/v1/prune_service.pb.h"
#include "core/base/mutex.h"
#include "server/queue/job_news.h"
#include "server/queue/job_store.h"

namespace attnprune::rpc {

// How who watches a job hears that there is something new: JobNews::Subscribe.
using SubscribeToJob =
    std::function<std::shared_ptr<void>(const std::string& job_id, OnJobNews on_news)>;

// A piece of a job's log, in order. Watchers share it.
struct EventBatch {
  int64_t after = 0;  // holds what follows this sequence …
  int64_t last = 0;   // … up to this one; equal: there was nothing
  bool full = false;  // the log may go on
  bool terminal = false;
  std::vector<std::shared_ptr<const v1::JobEvent>> events;
};

using SharedBatch = std::shared_ptr<const EventBatch>;

// All events after `after`, some kReadLimit of them. OUT_OF_RANGE (ErrorInfo, "oldest_sequence"):
// compacted away; NOT_FOUND.
absl::StatusOr<SharedBatch> ReadLog(JobStore* jobs, absl::string_view job_id, int64_t after);
// Whether ReadLog would be OK; its errors.
absl::Status CheckLog(JobStore* jobs, absl::string_view job_id, int64_t after);

inline constexpr int kReadLimit = 64;

// One job's; each of its watchers holds one reference. Thread-safe.
class LiveFeed : public std::enable_shared_from_this<LiveFeed> {
 public:
  // The store must outlive the feed.
  LiveFeed(JobStore* jobs, std::string job_id) : jobs_(jobs), id_(std::move(job_id)) {}

  // What follows `after`. If more progress than MaxProgress has piled up, only the newest and the
  // newest with an evaluation, method by method. May end before the newest event, but is empty only
  // if there is none. Errors: of ReadLog.
  absl::StatusOr<SharedBatch> ReadAfter(int64_t after);

  // Progress events that a batch has at most before they are thinned out: fewer the more watchers
  // there are, so that a crowd does not slow the solver down, which is on the same machine.
  static int MaxProgress(int64_t watchers);

 private:
  absl::StatusOr<SharedBatch> ReadCoalesced(int64_t after) const;

  static constexpr size_t kKept = 4;  // batches; watchers who are slower share less

  JobStore* const jobs_;
  const std::string id_;
  Mutex mutex_;
  std::deque<SharedBatch> newest_ ABSL_GUARDED_BY(mutex_);
};

// The feeds of the jobs that are watched. Thread-safe.
class LiveFeeds {
 public:
  explicit LiveFeeds(JobStore* jobs) : jobs_(jobs) {}
  std::shared_ptr<LiveFeed> Join(const std::string& job_id);

 private:
  JobStore* const jobs_;
  Mutex mutex_;
  std::map<std::string, std::weak_ptr<LiveFeed>> by_job_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace attnprune::rpc

#endif  // ATTNPRUNE_SERVER_API_LIVE_FEED_H_
