#include "server/rpc/watch_reactor.h"

#include <utility>
#include <vector>

#include "absl/time/clock.h"
#include "server/rpc/record_convert.h"
#include "server/rpc/status.h"

namespace attnprune::rpc {
namespace {

grpc::Status Draining() {
  return ToGrpc(absl::UnavailableError(
      "the server stops; watch again with the last sequence as after_sequence"));
}

}  // namespace

bool WatchRegistry::Add(const std::shared_ptr<WatchReactor>& watch) {
  const MutexLock lock(&mutex_);
  if (!draining_) watches_.insert(watch);
  return !draining_;
}

void WatchRegistry::Remove(const std::shared_ptr<WatchReactor>& watch) {
  const MutexLock lock(&mutex_);
  watches_.erase(watch);
}

void WatchRegistry::Drain() {
  std::set<std::shared_ptr<WatchReactor>> watches;
  {
    const MutexLock lock(&mutex_);
    draining_ = true;
    watches.swap(watches_);
  }
  for (const auto& watch : watches) watch->Drain();
}

WatchReactor* WatchReactor::Start(const WatchContext& context, const v1::WatchJobRequest& request) {
  const auto watch = std::make_shared<WatchReactor>(context);
  watch->self_ = watch;
  if (!context.registry->Add(watch)) {
    watch->Post([w = watch.get()] { w->End(Draining()); });
    return watch.get();
  }
  watch->Post([w = watch.get(), name = request.name(), after = request.after_sequence()] {
    w->Open(name, after);
  });
  return watch.get();
}

WatchReactor::WatchReactor(const WatchContext& context) : context_(context), strand_(context.io) {}

void WatchReactor::Post(std::function<void()> task) {
  strand_.Post([self = shared_from_this(), task = std::move(task)] { task(); });
}

// Subscribes before the first read, so that nothing falls between the two.
void WatchReactor::Open(const std::string& name, int64_t after_sequence) {
  if (ended_) return;  // drained before it began
  absl::StatusOr<WatchCursor> cursor = WatchCursor::Open(context_.jobs, name, after_sequence);
  if (!cursor.ok()) return End(ToGrpc(cursor.status()));
  cursor_ = *std::move(cursor);
  subscription_ = context_.subscribe(cursor_->job_id(), [weak = weak_from_this()] {
    if (const auto watch = weak.lock()) watch->OnNews();
  });
  SetAlarm();
  Pump();
}

void WatchReactor::Pump() {
  if (ended_ || writing_) return;
  if (end_.has_value()) return End(*end_);
  if (!cursor_.has_value() || (pending_.empty() && !ReadMore())) return;
  v1::JobEvent next = std::move(pending_.front());
  pending_.pop_front();
  Write(std::move(next));
}

// False if there is nothing to write now; the stream may have ended.
bool WatchReactor::ReadMore() {
  absl::StatusOr<std::deque<v1::JobEvent>> events = cursor_->Next();
  if (!events.ok()) {
    End(ToGrpc(events.status()));
    return false;
  }
  pending_ = *std::move(events);
  if (pending_.empty() && cursor_->ended()) End(grpc::Status::OK);
  return !pending_.empty();
}

void WatchReactor::Write(v1::JobEvent event) {
  in_flight_ = std::move(event);
  writing_ = true;
  idle_ = false;
  StartWrite(&in_flight_);
}

// Everything that could call back is let go of here: after Finish comes OnDone.
void WatchReactor::End(const grpc::Status& status) {
  if (ended_) return;
  if (writing_) {
    if (!end_.has_value()) end_ = status;
    return;
  }
  ended_ = true;
  subscription_.reset();
  pending_.clear();
  alarm_.reset();
  Finish(status);
}

void WatchReactor::OnTick() {
  if (ended_) return;
  if (idle_ && !writing_) {
    v1::JobEvent event;
    *event.mutable_time() = ToProto(absl::Now());
    event.mutable_heartbeat();
    Write(std::move(event));
  }
  idle_ = true;
  SetAlarm();
}

// Weak, as the alarm keeps its function, and this the alarm. A new alarm each time, as the function
// of the old one may still be at its end.
void WatchReactor::SetAlarm() {
  alarm_ = std::make_unique<grpc::Alarm>();
  alarm_->Set(absl::ToChronoTime(absl::Now() + context_.heartbeat),
              [weak = weak_from_this()](bool expired) {
                const auto watch = weak.lock();
                if (expired && watch != nullptr) watch->Post([w = watch.get()] { w->OnTick(); });
              });
}

// Many news make one task.
void WatchReactor::OnNews() {
  if (news_posted_.exchange(true)) return;
  Post([this] {
    news_posted_ = false;
    Pump();
  });
}

void WatchReactor::Drain() {
  Post([this] { End(Draining()); });
}

void WatchReactor::OnWriteDone(bool ok) {
  Post([this, ok] {
    writing_ = false;
    if (!ok && !end_.has_value()) end_ = grpc::Status::CANCELLED;
    Pump();
  });
}

void WatchReactor::OnCancel() {
  Post([this] { End(grpc::Status::CANCELLED); });
}

void WatchReactor::OnDone() {
  context_.registry->Remove(self_);
  const std::shared_ptr<WatchReactor> last = std::move(self_);
}

}  // namespace attnprune::rpc
