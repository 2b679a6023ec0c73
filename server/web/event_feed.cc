#include "server/web/event_feed.h"

#include <algorithm>
#include <boost/asio/post.hpp>
#include <boost/asio/thread_pool.hpp>

#include "absl/strings/str_cat.h"
#include "core/base/clock.h"
#include "core/base/status_macros.h"
#include "server/observe/log.h"
#include "server/web/api_json.h"

namespace attnprune::web {
namespace {

using http::SharedBytes;
using http::StreamPiece;

// How long a browser waits before it comes back.
constexpr absl::string_view kRetry = "retry: 1000\n\n";
constexpr absl::string_view kHeartbeat = ": heartbeat\n\n";
constexpr absl::string_view kEnd = "event: end\ndata: {}\n\n";

}  // namespace

// One stream: a place in the log, and what is known of what follows.
class EventViewer final : public http::AnswerStream {
 public:
  EventViewer(std::shared_ptr<EventChannel> channel, api::LogPlace place, std::atomic<int>* viewers,
              std::function<bool()> still_admitted)
      : channel_(std::move(channel)),
        viewers_(viewers),
        still_admitted_(std::move(still_admitted)),
        place_(std::move(place)) {
    ++*viewers_;
  }
  ~EventViewer() override {
    channel_->Leave(this);
    --*viewers_;
  }

  void OnReady(std::function<void()> wake) override {
    wake_ = std::move(wake);
    channel_->Join(this);
  }
  void Wake() { wake_(); }
  void Arrive(const EventPiece& piece) {
    arrived_ = piece;
    wake_();
  }
  // Nothing was sent since the last beat: it is time for a heartbeat.
  void Beat() {
    admitted_ = still_admitted_();
    beat_due_ = silent_;
    silent_ = true;
    if (beat_due_ || !admitted_) wake_();
  }

  SharedBytes Next() override;
  bool ended() const override { return place_.ended() || !admitted_; }

 private:
  SharedBytes NextPiece();

  const std::shared_ptr<EventChannel> channel_;
  std::atomic<int>* const viewers_;
  const std::function<bool()> still_admitted_;
  bool admitted_ = true;
  std::function<void()> wake_;
  api::LogPlace place_;
  absl::optional<EventPiece> arrived_;  // that was asked for
  bool asked_ = false;
  bool begun_ = false;
  bool silent_ = false;
  bool beat_due_ = false;
};

SharedBytes EventViewer::NextPiece() {
  while (!ended()) {
    if (asked_ && !arrived_.has_value()) return nullptr;
    if (!asked_ && !place_.MayHaveMore(channel_->newest())) return nullptr;
    const EventPiece* const found = asked_ ? &*arrived_ : channel_->Find(place_, this);
    asked_ = found == nullptr;
    if (asked_) return nullptr;
    const EventPiece piece = *found;
    arrived_.reset();
    place_.Advance(piece.end);
    if (piece.bytes != nullptr) return piece.bytes;
  }
  return nullptr;
}

SharedBytes EventViewer::Next() {
  static const SharedBytes& retry = *new SharedBytes(StreamPiece(kRetry));
  static const SharedBytes& heartbeat = *new SharedBytes(StreamPiece(kHeartbeat));
  SharedBytes next = begun_ ? NextPiece() : retry;
  if (next == nullptr && beat_due_ && !ended()) next = heartbeat;
  begun_ = true;
  if (next != nullptr) silent_ = beat_due_ = false;
  return next;
}

// --- One job ---

// The channel watches from its first viewer on, before that one reads.
void EventChannel::Join(EventViewer* viewer) {
  viewers_.insert(viewer);
  if (watch_ == nullptr) {
    watch_ = context_.hub->Watch(job_id_, api::Pace::kEveryWrite,
                                 [weak = weak_from_this(), loop = context_.loop] {
                                   loop->Post([weak] {
                                     if (const auto self = weak.lock()) self->OnNews();
                                   });
                                 });
  }
  if (!beating_) Beat();
}

void EventChannel::Leave(EventViewer* viewer) {
  viewers_.erase(viewer);
  for (auto& [key, waiting] : reading_) waiting.erase(viewer);
  if (viewers_.empty()) watch_.reset();
}

void EventChannel::Beat() {
  beating_ = !viewers_.empty();
  if (!beating_) return;
  for (EventViewer* const viewer : viewers_) viewer->Beat();
  context_.loop->After(context_.heartbeat, [weak = weak_from_this()] {
    if (const auto channel = weak.lock()) channel->Beat();
  });
}

// --- News ---

// The hub is quiet from here until PassOn takes its news.
void EventChannel::OnNews() {
  const absl::Duration interval = api::TurnInterval(viewers_.size(), kPiecesPerSecond);
  const absl::Duration since = SteadyNow() - last_turn_;
  context_.loop->After(std::clamp(interval - since, absl::ZeroDuration(), interval),
                       [weak = weak_from_this()] {
                         if (const auto channel = weak.lock()) channel->PassOn();
                       });
}

void EventChannel::PassOn() {
  if (watch_ == nullptr) return;
  last_turn_ = SteadyNow();
  passed_on_ = std::max(passed_on_, watch_->TakeNews());
  for (EventViewer* const viewer : viewers_) viewer->Wake();
}

// --- Pieces ---

const EventPiece* EventChannel::Find(const api::LogPlace& place, EventViewer* viewer) {
  const Key key{place.after(), place.detail()};
  const auto found = pieces_.find(key);
  if (found != pieces_.end()) return &found->second;
  const bool begun = reading_.count(key) > 0;
  reading_[key].insert(viewer);
  if (!begun) StartRead(key);
  return nullptr;
}

void EventChannel::StartRead(const Key& key) {
  boost::asio::post(*context_.io, [self = shared_from_this(), watch = watch_, key]() mutable {
    const auto piece = std::make_shared<EventPiece>(self->Read(*watch, key));
    http::IoLoop* const loop = self->context_.loop;
    loop->Post([self = std::move(self), key, piece] { self->OnRead(key, *piece); });
  });
}

EventPiece EventChannel::Read(const api::JobWatch& watch, const Key& key) const {
  const auto& [after, detail] = key;
  const absl::StatusOr<api::SharedBatch> batch = watch.Read(after, detail);
  if (!batch.ok()) {  // the viewer's next try is told why
    Log(LogLevel::kWarning, "http.events",
        {{"job", NameOf(job_id_)}, {"error", batch.status().ToString()}});
    return {.end = {.last = after, .terminal = true}};
  }
  EventPiece piece{.end = **batch};
  if (!(*batch)->events.empty()) piece.bytes = StreamPiece(FormatEvents(**batch));
  return piece;
}

void EventChannel::OnRead(const Key& key, const EventPiece& piece) {
  const std::set<EventViewer*> waiting = std::move(reading_[key]);
  reading_.erase(key);
  if (piece.bytes != nullptr) Keep(key, piece);
  for (EventViewer* const viewer : waiting) viewer->Arrive(piece);
}

// Nothing found is not kept: the log may go on at any time.
void EventChannel::Keep(const Key& key, const EventPiece& piece) {
  pieces_[key] = piece;
  oldest_first_.push_back(key);
  kept_bytes_ += piece.bytes->size();
  while (kept_bytes_ > kKeptBytes && oldest_first_.size() > 1) {
    const auto oldest = pieces_.find(oldest_first_.front());
    kept_bytes_ -= oldest->second.bytes->size();
    pieces_.erase(oldest);
    oldest_first_.pop_front();
  }
}

// --- All jobs ---

std::shared_ptr<EventChannel> EventFeed::Channel(const std::string& job_id) {
  const MutexLock lock(&mutex_);
  std::erase_if(by_job_, [](const auto& entry) { return entry.second.expired(); });
  std::weak_ptr<EventChannel>& known = by_job_[job_id];
  std::shared_ptr<EventChannel> channel = known.lock();
  if (channel == nullptr) known = channel = std::make_shared<EventChannel>(context_, job_id);
  return channel;
}

absl::StatusOr<std::unique_ptr<http::AnswerStream>> EventFeed::Open(
    const access::Caller& caller, absl::string_view name, int64_t after,
    std::function<bool()> still_admitted) {
  ATTNPRUNE_ASSIGN_OR_RETURN(api::LogPlace place, context_.hub->Open(caller, name, after));
  if (place.ended()) return nullptr;
  const std::string job_id = place.job_id();
  return std::make_unique<EventViewer>(Channel(job_id), std::move(place), context_.viewers,
                                       std::move(still_admitted));
}

std::string FormatEvents(const api::EventBatch& batch) {
  std::string text;
  for (const auto& event : batch.events) {
    absl::StrAppend(&text, "id: ", event->sequence(), "\ndata: ", ToJson(*event), "\n\n");
  }
  if (batch.terminal) absl::StrAppend(&text, kEnd);
  return text;
}

}  // namespace attnprune::web
