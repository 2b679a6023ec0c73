#include "server/grpc/watch_reactor.h"

#include <utility>
#include <vector>

#include "absl/time/clock.h"
#include "server/api/record_convert.h"
#include "server/grpc/status.h"

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

WatchReactor* WatchReactor::Start(const WatchContext& context, const v1::WatchJobRequest& request,
                                  CallRecord record) {
  record.SetJob(request.name());
  const auto watch = std::make_shared<WatchReactor>(context, std::move(record));
  watch->self_ = watch;
  if (!context.registry->Add(watch)) {
    watch->Post([w = watch.get()] { w->End(Draining()); });
    return watch.get();
  }
  watch->Post([w = watch.get(), request] { w->Open(request); });
  return watch.get();
}

WatchReactor::WatchReactor(const WatchContext& context, CallRecord record)
    : context_(context), record_(std::move(record)), strand_(context.io) {}

void WatchReactor::Post(std::function<void()> task) {
  strand_.Post([self = shared_from_this(), task = std::move(task)] { task(); });
}

// Subscribes before the first read, so that nothing falls between the two.
void WatchReactor::Open(const v1::WatchJobRequest& request) {
  if (ended_) return;  // drained before it began
  absl::StatusOr<WatchCursor> cursor =
      WatchCursor::Open(context_.jobs, context_.feeds, request.name(), request.after_sequence());
  if (!cursor.ok()) return End(ToGrpc(cursor.status()));
  cursor_ = *std::move(cursor);
  replay_only_ = request.replay_only();
  subscription_ = context_.subscribe(
      cursor_->job_id(), [weak = weak_from_this()](int64_t last_sequence, bool at_once) {
        if (const auto watch = weak.lock()) watch->OnNews(last_sequence, at_once);
      });
  SetAlarm();
  Pump();
}

void WatchReactor::Pump() {
  if (ended_ || writing_) return;
  if (end_.has_value()) return End(*end_);
  if (!cursor_.has_value()) return;
  if ((batch_ == nullptr || next_ == batch_->events.size()) && !ReadMore()) return;
  Write(batch_->events[next_++]);
}

// False if there is nothing to write now; the stream may have ended.
bool WatchReactor::ReadMore() {
  batch_ = nullptr;
  if (cursor_->ended() || (replay_only_ && cursor_->replayed())) {
    End(grpc::Status::OK);
    return false;
  }
  if (!cursor_->MayHaveMore(newest_)) return false;
  absl::StatusOr<SharedBatch> batch = cursor_->Next();
  if (!batch.ok()) {
    End(ToGrpc(batch.status()));
    return false;
  }
  batch_ = *std::move(batch);
  next_ = 0;
  if (batch_->events.empty() && replay_only_) End(grpc::Status::OK);
  return !batch_->events.empty();
}

void WatchReactor::Write(std::shared_ptr<const v1::JobEvent> event) {
  in_flight_ = std::move(event);
  writing_ = true;
  idle_ = false;
  StartWrite(in_flight_.get());
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
  batch_.reset();
  alarm_.reset();
  record_.Finish(status);
  Finish(status);
}

void WatchReactor::OnTick() {
  if (ended_) return;
  Pump();  // news that did not have to be read at once
  if (ended_) return;
  if (idle_ && !writing_) {
    v1::JobEvent event;
    *event.mutable_time() = ToProto(absl::Now());
    event.mutable_heartbeat();
    Write(std::make_shared<const v1::JobEvent>(std::move(event)));
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
void WatchReactor::OnNews(int64_t last_sequence, bool at_once) {
  int64_t known = newest_;  // two writes may tell of themselves in the other order
  while (known < last_sequence && !newest_.compare_exchange_weak(known, last_sequence)) {
  }
  if (!at_once || news_posted_.exchange(true)) return;
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
