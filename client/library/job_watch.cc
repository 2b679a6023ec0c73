// A watch that outlives its connections.
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "client/library/connection.h"
#include "core/base/status_macros.h"

namespace attnprune::client {
namespace {

enum class Mode { kFollow, kReplay };

class Watcher {
 public:
  Watcher(Connection& connection, const std::string& name, int64_t after,
          const EventHandler& handler, Mode mode)
      : connection_(connection),
        name_(name),
        last_(after),
        handler_(handler),
        mode_(mode),
        backoff_(connection.NewBackoff(mode == Mode::kReplay ? connection.options().retry
                                                             : connection.options().watch_retry)) {}

  absl::StatusOr<v1::Job> Run() {
    while (true) {
      const absl::Status status =
          connection_.Try(absl::InfiniteDuration(),
                          [this](grpc::ClientContext& context) { return ReadStream(context); });
      if (terminal_.has_value()) return *std::move(terminal_);
      const bool skipped = SkipsCompacted(status);
      if (stopped_) return absl::CancelledError("the watch was stopped");
      if (skipped) continue;
      if (status.ok()) return Ended();
      if (!absl::IsUnavailable(status)) return status;
      ATTNPRUNE_RETURN_IF_ERROR(connection_.WaitToRetry(status, backoff_));
    }
  }

 private:
  absl::Status ReadStream(grpc::ClientContext& context) {
    v1::WatchJobRequest request;
    request.set_name(name_);
    request.set_after_sequence(last_);
    request.set_replay_only(mode_ == Mode::kReplay);
    const auto stream = connection_.jobs().WatchJob(&context, request);
    v1::JobEvent event;
    while (stream->Read(&event)) {
      backoff_.Succeeded();
      if (!stopped_ && !Take(event)) {
        stopped_ = true;
        context.TryCancel();
      }
    }
    return FromGrpc(stream->Finish());
  }

  // False: the handler wants no more.
  bool Take(const v1::JobEvent& event) {
    if (event.sequence() <= last_) return true;  // a heartbeat, or seen before
    last_ = event.sequence();
    if (event.has_terminal()) terminal_ = event.terminal();
    return handler_(event);
  }

  // Where the history that is gone ends, the watch goes on.
  bool SkipsCompacted(const absl::Status& status) {
    const absl::optional<int64_t> oldest = OldestSequence(status);
    if (!absl::IsOutOfRange(status) || !oldest.has_value() || *oldest <= last_ + 1) return false;
    v1::JobEvent event;
    event.set_warning(absl::StrCat("events ", last_ + 1, " to ", *oldest - 1,
                                   " are no longer kept by the server"));
    last_ = *oldest - 1;
    stopped_ = !handler_(event);
    return true;
  }

  // The stream ended well without a terminal event: it was before after_sequence, or is still to
  // come.
  absl::StatusOr<v1::Job> Ended() {
    v1::GetJobRequest request;
    request.set_name(name_);
    return connection_.Call(connection_.jobs(), &v1::PruneService::Stub::GetJob, request);
  }

  Connection& connection_;
  const std::string name_;
  int64_t last_;  // sequence of the last event handed on
  const EventHandler& handler_;
  const Mode mode_;
  Backoff backoff_;
  absl::optional<v1::Job> terminal_;
  bool stopped_ = false;
};

}  // namespace

absl::StatusOr<v1::Job> Client::Watch(const std::string& name, int64_t after_sequence,
                                      const EventHandler& handler) {
  return Watcher(*connection_, name, after_sequence, handler, Mode::kFollow).Run();
}

absl::StatusOr<v1::Job> Client::Replay(const std::string& name, const EventHandler& handler) {
  return Watcher(*connection_, name, 0, handler, Mode::kReplay).Run();
}

}  // namespace attnprune::client
