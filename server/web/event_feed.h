// The events of watched jobs as server-sent events, converted and framed once for all viewers.
//
//   id: 17
//   data: {"sequence":"17","time":"…","progress":{…}}
//
// After the terminal event comes "event: end", which tells a browser not to come back.
#ifndef ATTNPRUNE_SERVER_WEB_EVENT_FEED_H_
#define ATTNPRUNE_SERVER_WEB_EVENT_FEED_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "core/base/mutex.h"
#include "server/access/caller.h"
#include "server/api/job_hub.h"
#include "server/http/io_loop.h"
#include "server/http/message.h"

namespace boost::asio {
class thread_pool;
}

namespace attnprune::web {

class EventViewer;

// What channels use; everything outlives them.
struct EventFeedContext {
  api::JobHub* hub;
  http::IoLoop* loop;
  boost::asio::thread_pool* io;
  absl::Duration heartbeat;   // a stream that has been silent for so long gets a comment
  std::atomic<int>* viewers;  // how many there are, for metrics
};

// The events of one batch as bytes.
struct EventPiece {
  api::BatchEnd end;        // terminal too if the log cannot be read any further
  http::SharedBytes bytes;  // null: no events
};

// One watched job. On the loop only, but for what is said. Its viewers hold it.
//
// To the hub it is one watcher. A viewer is nothing but a place in the log. Pieces are kept under
// their beginning, so that all that follow, and all that begin at the same time, are sent the same
// bytes; for a viewer too slow for what is kept the store is read again, with its progress thinned
// out. News are passed on in turns, fewer the more viewers there are.
class EventChannel : public std::enable_shared_from_this<EventChannel> {
 public:
  EventChannel(const EventFeedContext& context, std::string job_id)
      : context_(context), job_id_(std::move(job_id)) {}

  void Join(EventViewer* viewer);
  void Leave(EventViewer* viewer);

  // The newest event that has been passed on to viewers.
  int64_t newest() const { return passed_on_; }

  // What is read at `place`. nullptr: is being read, and `viewer`, which has joined, will be given
  // it.
  const EventPiece* Find(const api::LogPlace& place, EventViewer* viewer);

  static constexpr int kPiecesPerSecond = 2000;  // to all viewers together

 private:
  using Key = std::pair<int64_t, api::Detail>;           // where a piece begins, and how it is read
  static constexpr size_t kKeptBytes = size_t{2} << 20;  // of pieces

  void OnNews();
  void PassOn();
  void Beat();
  void StartRead(const Key& key);
  EventPiece Read(const api::JobWatch& watch, const Key& key) const;  // any thread; waits
  void OnRead(const Key& key, const EventPiece& piece);
  void Keep(const Key& key, const EventPiece& piece);

  const EventFeedContext context_;
  const std::string job_id_;
  std::shared_ptr<api::JobWatch> watch_;  // while there are viewers

  std::set<EventViewer*> viewers_;
  int64_t passed_on_ = 0;
  bool beating_ = false;
  absl::Time last_turn_ = absl::InfinitePast();
  std::map<Key, EventPiece> pieces_;
  std::deque<Key> oldest_first_;
  size_t kept_bytes_ = 0;
  std::map<Key, std::set<EventViewer*>> reading_;  // and which viewers wait for it
};

// Thread-safe.
class EventFeed {
 public:
  explicit EventFeed(const EventFeedContext& context) : context_(context) {}

  // The events after `after`, for the loop. nullptr: the job had ended and its last event been
  // seen. Errors: of api::JobHub::Open. Waits for the store.
  // still_admitted: asked on the loop at every heartbeat; once it is false the stream ends.
  absl::StatusOr<std::unique_ptr<http::AnswerStream>> Open(const access::Caller& caller,
                                                           absl::string_view name, int64_t after,
                                                           std::function<bool()> still_admitted);

 private:
  std::shared_ptr<EventChannel> Channel(const std::string& job_id);

  const EventFeedContext context_;
  Mutex mutex_;
  std::map<std::string, std::weak_ptr<EventChannel>> by_job_ ABSL_GUARDED_BY(mutex_);
};

// The events as bytes, "id: …" and "data: …" each; the terminal one is followed by "event: end".
std::string FormatEvents(const api::EventBatch& batch);

}  // namespace attnprune::web

#endif  // ATTNPRUNE_SERVER_WEB_EVENT_FEED_H_
