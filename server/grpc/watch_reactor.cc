#include "server/grpc/watch_reactor.h"

#include <boost/asio/post.hpp>
#include <utility>

#include "core/base/clock.h"
#include "server/api/record_convert.h"
#include "server/grpc/status.h"

namespace attnprune::rpc {

namespace asio = boost::asio;

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
    : context_(context),
      record_(std::move(record)),
      strand_(context.io->get_executor()),
      timer_(strand_) {}

void WatchReactor::Post(std::function<void()> task) {
  asio::post(strand_, [self = shared_from_this(), task = std::move(task)] { task(); });
}

void WatchReactor::Open(const v1::WatchJobRequest& request) {
  if (ended_) return;  // drained before it began
  absl::StatusOr<api::LogPlace> place =
      context_.hub->Open(request.name(), request.after_sequence());
  if (!place.ok()) return End(ToGrpc(place.status()));
  place_ = *std::move(place);
  replay_only_ = request.replay_only();
  watch_ = context_.hub->Watch(place_->job_id(), api::Pace::kCrowd,
                               [weak = weak_from_this(), strand = strand_] {
                                 asio::post(strand, [weak] {
                                   if (const auto self = weak.lock()) self->OnNews();
                                 });
                               });
  SetTimer();
  Pump();
}

void WatchReactor::OnNews() {
  if (ended_) return;
  watch_->TakeNews();
  Pump();
}

void WatchReactor::Pump() {
  if (ended_ || writing_) return;
  if (end_.has_value()) return End(*end_);
  if (!place_.has_value()) return;
  if ((batch_ == nullptr || next_ == batch_->events.size()) && !ReadMore()) return;
  Write(batch_->events[next_++]);
}

// False if there is nothing to write now; the stream may have ended.
bool WatchReactor::ReadMore() {
  batch_ = nullptr;
  if (place_->ended() || (replay_only_ && place_->replayed())) {
    End(grpc::Status::OK);
    return false;
  }
  if (!place_->MayHaveMore(watch_->newest())) return false;
  absl::StatusOr<api::SharedBatch> batch = watch_->Read(place_->after(), place_->detail());
  if (!batch.ok()) {
    End(ToGrpc(batch.status()));
    return false;
  }
  batch_ = *std::move(batch);
  place_->Advance(*batch_);
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
  watch_.reset();
  batch_.reset();
  timer_.cancel();
  record_.Finish(status);
  Finish(status);
}

void WatchReactor::OnTick() {
  if (ended_) return;
  Pump();  // news that did not have to be read at once
  if (ended_) return;
  if (idle_ && !writing_) WriteHeartbeat();
  idle_ = true;
  SetTimer();
}

void WatchReactor::WriteHeartbeat() {
  v1::JobEvent event;
  *event.mutable_time() = api::ToProto(SteadyNow());
  v1::Heartbeat& heartbeat = *event.mutable_heartbeat();
  if (auto waiting = context_.outlook->RecentWaitingOf(place_->job_id())) {
    *heartbeat.mutable_waiting() = *std::move(waiting);
  }
  Write(std::make_shared<const v1::JobEvent>(std::move(event)));
}

void WatchReactor::SetTimer() {
  timer_.expires_after(absl::ToChronoNanoseconds(context_.heartbeat));
  timer_.async_wait([weak = weak_from_this()](const boost::system::error_code& error) {
    const auto self = weak.lock();
    if (!error && self != nullptr) self->OnTick();
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
