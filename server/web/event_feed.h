// The events of watched jobs as server-sent events: read from the store, converted and framed once,
// however many look on.
//
//   id: 17
//   data: {"sequence":"17","time":"…","progress":{…}}
//
// After the terminal event comes "event: end", which tells a browser not to come back.
#ifndef ATTNPRUNE_SERVER_WEB_EVENT_FEED_H_
#define ATTNPRUNE_SERVER_WEB_EVENT_FEED_H_

#include <atomic>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "core/base/mutex.h"
#include "server/api/live_feed.h"
#include "server/blobs/io_threads.h"
#include "server/http/io_loop.h"
#include "server/http/message.h"
#include "server/queue/job_store.h"

namespace attnprune::http {

class EventViewer;

// What channels use; everything outlives them.
struct EventFeedContext {
  JobStore* jobs;
  rpc::SubscribeToJob subscribe;
  IoLoop* loop;
  IoThreads* io;
  absl::Duration heartbeat;   // a stream that has been silent for so long gets a comment
  std::atomic<int>* viewers;  // how many there are, for metrics
};

// The events of one job after one sequence, up to another, as bytes.
struct EventPiece {
  int64_t last = 0;    // equal to what it follows: there was nothing
  bool full = false;   // the log may go on
  bool ended = false;  // the job has ended, or the log cannot be read any further
  SharedBytes bytes;   // null: no events
};

// One watched job. On the loop only, but for what is said. Its viewers hold it.
//
// A viewer is nothing but a place in the log. Pieces are kept under their beginning, so that all
// who follow, and all who begin at the same time, are sent the same bytes; who is too slow for what
// is kept has the store read again, with his progress thinned out (rpc::LiveFeed). News are passed
// on in turns, fewer the more viewers there are.
class EventChannel : public std::enable_shared_from_this<EventChannel> {
 public:
  EventChannel(const EventFeedContext& context, std::shared_ptr<rpc::LiveFeed> feed,
               std::string job_id);

  void Join(EventViewer* viewer);
  void Leave(EventViewer* viewer);

  // The newest event that has been passed on to viewers.
  int64_t newest() const { return passed_on_; }

  // What follows `after`. whole: with all of its progress, for a replay. nullptr: is being read,
  // and `viewer` will be given it.
  const EventPiece* Find(int64_t after, bool whole, EventViewer* viewer);

  // Between two turns of progress: so many pieces a second are sent, to all viewers together.
  static absl::Duration TurnInterval(size_t viewers);
  static constexpr int kPiecesPerSecond = 2000;

 private:
  struct Key {
    int64_t after;
    bool whole;
    bool operator<(const Key& other) const {
      return std::pair(after, whole) < std::pair(other.after, other.whole);
    }
  };
  static constexpr size_t kKeptBytes = size_t{2} << 20;  // of pieces

  void OnNews(int64_t newest);
  void PassOn();
  void Beat();
  void StartRead(const Key& key);
  EventPiece Read(const Key& key) const;  // any thread; waits for the store
  void OnRead(const Key& key, const EventPiece& piece);
  void Keep(const Key& key, const EventPiece& piece);

  const EventFeedContext context_;
  const std::shared_ptr<rpc::LiveFeed> feed_;
  const std::string job_id_;

  std::atomic<int64_t> told_{0};  // newest event heard of, from any thread
  std::atomic<bool> news_posted_{false};

  std::set<EventViewer*> viewers_;
  int64_t passed_on_ = 0;
  bool turn_waits_ = false;
  bool beating_ = false;
  absl::Time last_turn_ = absl::InfinitePast();
  std::map<Key, EventPiece> pieces_;
  std::deque<Key> oldest_first_;
  size_t kept_bytes_ = 0;
  std::map<Key, std::set<EventViewer*>> reading_;  // and who waits for it
  std::shared_ptr<void> subscription_;             // while there are viewers
};

// Thread-safe.
class EventFeed {
 public:
  explicit EventFeed(EventFeedContext context);

  // The events after `after`, for the loop. nullptr: the job had ended and its last event been
  // seen. Errors: of rpc::WatchCursor::Open and rpc::ReadLog. Waits for the store.
  absl::StatusOr<std::unique_ptr<EventStream>> Open(absl::string_view name, int64_t after);

 private:
  std::shared_ptr<EventChannel> Channel(const std::string& job_id);

  const EventFeedContext context_;
  rpc::LiveFeeds feeds_;
  Mutex mutex_;
  std::map<std::string, std::weak_ptr<EventChannel>> by_job_ ABSL_GUARDED_BY(mutex_);
};

// The events as bytes, "id: …" and "data: …" each; the terminal one is followed by "event: end".
std::string FormatEvents(const rpc::EventBatch& batch);

}  // namespace attnprune::http

#endif  // ATTNPRUNE_SERVER_WEB_EVENT_FEED_H_
