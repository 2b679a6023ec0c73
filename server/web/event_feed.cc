#include "server/web/event_feed.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "core/base/status_macros.h"
#include "server/api/watch_cursor.h"
#include "server/observe/log.h"
#include "server/web/api_json.h"

namespace attnprune::http {
namespace {

// How long a browser waits before it comes back.
constexpr absl::string_view kRetry = "retry: 1000\n\n";
constexpr absl::string_view kHeartbeat = ": heartbeat\n\n";
constexpr absl::string_view kEnd = "event: end\ndata: {}\n\n";

}  // namespace

// One stream: a place in the log, and what is known of what follows.
class EventViewer final : public EventStream {
 public:
  EventViewer(std::shared_ptr<EventChannel> channel, int64_t after, int64_t replay_until,
              std::atomic<int>* viewers)
      : channel_(std::move(channel)),
        viewers_(viewers),
        after_(after),
        replay_until_(replay_until) {
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
    beat_due_ = silent_;
    silent_ = true;
    if (beat_due_) wake_();
  }

  SharedBytes Next() override;
  bool ended() const override { return ended_; }

 private:
  SharedBytes NextPiece();
  void Take(const EventPiece& piece);

  const std::shared_ptr<EventChannel> channel_;
  std::atomic<int>* const viewers_;
  std::function<void()> wake_;
  int64_t after_;
  const int64_t replay_until_;          // the newest event when the stream began
  absl::optional<EventPiece> arrived_;  // that was asked for
  bool asked_ = false;
  bool begun_ = false;
  bool caught_up_ = false;  // a read has found nothing: from here on the channel's news count
  bool full_ = false;       // the last piece was
  bool ended_ = false;
  bool silent_ = false;
  bool beat_due_ = false;
};

void EventViewer::Take(const EventPiece& piece) {
  caught_up_ = caught_up_ || piece.last == after_;
  full_ = piece.full;
  after_ = piece.last;
  ended_ = piece.ended;
}

SharedBytes EventViewer::NextPiece() {
  while (!ended_) {
    if (asked_ && !arrived_.has_value()) return nullptr;
    if (!asked_ && !full_ && caught_up_ && channel_->newest() <= after_) return nullptr;
    const EventPiece* const found =
        asked_ ? &*arrived_ : channel_->Find(after_, after_ < replay_until_, this);
    asked_ = found == nullptr;
    if (asked_) return nullptr;
    const EventPiece piece = *found;
    arrived_.reset();
    Take(piece);
    if (piece.bytes != nullptr) return piece.bytes;
  }
  return nullptr;
}

SharedBytes EventViewer::Next() {
  static const SharedBytes& retry = *new SharedBytes(StreamPiece(kRetry));
  static const SharedBytes& heartbeat = *new SharedBytes(StreamPiece(kHeartbeat));
  SharedBytes next;
  if (!begun_) {
    next = retry;
  } else {
    next = NextPiece();
    if (next == nullptr && beat_due_ && !ended_) next = heartbeat;
  }
  begun_ = true;
  if (next != nullptr) silent_ = beat_due_ = false;
  return next;
}

// --- One job ---

EventChannel::EventChannel(const EventFeedContext& context, std::shared_ptr<rpc::LiveFeed> feed,
                           std::string job_id)
    : context_(context), feed_(std::move(feed)), job_id_(std::move(job_id)) {}

// Subscribes with the first, before he reads, so that nothing falls between the two.
void EventChannel::Join(EventViewer* viewer) {
  viewers_.insert(viewer);
  if (subscription_ == nullptr) {
    subscription_ =
        context_.subscribe(job_id_, [weak = weak_from_this()](int64_t last_sequence, bool) {
          if (const auto channel = weak.lock()) channel->OnNews(last_sequence);
        });
  }
  if (!beating_) Beat();
}

// The subscription ends while the viewer still holds the channel: were it ended by the channel's
// end, that might come from within a call of its own.
void EventChannel::Leave(EventViewer* viewer) {
  viewers_.erase(viewer);
  for (auto& [key, waiting] : reading_) waiting.erase(viewer);
  if (viewers_.empty()) subscription_.reset();
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

absl::Duration EventChannel::TurnInterval(size_t viewers) {
  return absl::Seconds(1) * static_cast<double>(viewers) / kPiecesPerSecond;
}

// From any thread, with locks held: hands over and returns. Many news make one task.
void EventChannel::OnNews(int64_t newest) {
  int64_t known = told_;  // two writes may tell of themselves in the other order
  while (known < newest && !told_.compare_exchange_weak(known, newest)) {
  }
  if (news_posted_.exchange(true)) return;
  context_.loop->Post([weak = weak_from_this()] {
    const auto channel = weak.lock();
    if (channel == nullptr || channel->turn_waits_) return;
    channel->turn_waits_ = true;
    const absl::Duration since = absl::Now() - channel->last_turn_;
    const absl::Duration wait =
        std::clamp(TurnInterval(channel->viewers_.size()) - since, absl::ZeroDuration(),
                   TurnInterval(channel->viewers_.size()));
    channel->context_.loop->After(wait, [weak] {
      if (const auto waited = weak.lock()) waited->PassOn();
    });
  });
}

void EventChannel::PassOn() {
  turn_waits_ = news_posted_ = false;
  last_turn_ = absl::Now();
  passed_on_ = std::max<int64_t>(passed_on_, told_);
  for (EventViewer* const viewer : viewers_) viewer->Wake();
}

// --- Pieces ---

const EventPiece* EventChannel::Find(int64_t after, bool whole, EventViewer* viewer) {
  const Key key{after, whole};
  const auto found = pieces_.find(key);
  if (found != pieces_.end()) return &found->second;
  const bool begun = reading_.count(key) > 0;
  reading_[key].insert(viewer);
  if (!begun) StartRead(key);
  return nullptr;
}

void EventChannel::StartRead(const Key& key) {
  context_.io->Post([self = shared_from_this(), key]() mutable {
    auto piece = std::make_shared<EventPiece>(self->Read(key));
    IoLoop* const loop = self->context_.loop;
    loop->Post([self = std::move(self), key, piece] { self->OnRead(key, *piece); });
  });
}

EventPiece EventChannel::Read(const Key& key) const {
  const absl::StatusOr<rpc::SharedBatch> batch =
      key.whole ? rpc::ReadLog(context_.jobs, job_id_, key.after) : feed_->ReadAfter(key.after);
  EventPiece piece{.last = key.after};
  if (!batch.ok()) {  // the viewer's next try is told why
    Log(LogLevel::kWarning, "http.events",
        {{"job", absl::StrCat("jobs/", job_id_)}, {"error", batch.status().ToString()}});
    piece.ended = true;
    return piece;
  }
  piece.last = (*batch)->last;
  piece.full = (*batch)->full;
  piece.ended = (*batch)->terminal;
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

EventFeed::EventFeed(EventFeedContext context)
    : context_(std::move(context)), feeds_(context_.jobs) {}

std::shared_ptr<EventChannel> EventFeed::Channel(const std::string& job_id) {
  const MutexLock lock(&mutex_);
  std::erase_if(by_job_, [](const auto& entry) { return entry.second.expired(); });
  std::weak_ptr<EventChannel>& known = by_job_[job_id];
  std::shared_ptr<EventChannel> channel = known.lock();
  if (channel == nullptr) {
    channel = std::make_shared<EventChannel>(context_, feeds_.Join(job_id), job_id);
    known = channel;
  }
  return channel;
}

absl::StatusOr<std::unique_ptr<EventStream>> EventFeed::Open(absl::string_view name,
                                                             int64_t after) {
  ATTNPRUNE_ASSIGN_OR_RETURN(const rpc::WatchCursor cursor,
                             rpc::WatchCursor::Open(context_.jobs, &feeds_, name, after));
  if (cursor.ended()) return nullptr;
  // Whether the log still reaches back so far is to be said now: a stream has no errors.
  ATTNPRUNE_RETURN_IF_ERROR(rpc::CheckLog(context_.jobs, cursor.job_id(), after));
  return std::make_unique<EventViewer>(Channel(cursor.job_id()), after, cursor.replay_until(),
                                       context_.viewers);
}

std::string FormatEvents(const rpc::EventBatch& batch) {
  std::string text;
  for (const auto& event : batch.events) {
    absl::StrAppend(&text, "id: ", event->sequence(), "\ndata: ", ToJson(*event), "\n\n");
  }
  if (batch.terminal) absl::StrAppend(&text, kEnd);
  return text;
}

}  // namespace attnprune::http
