// A watch that outlives its connections.
#include <mutex>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "client/library/connection.h"
#include "client/library/server_probe.h"
#include "core/base/status_macros.h"

namespace attnprune::client {
namespace {

enum class Mode { kFollow, kReplay };

// What differs between the watch of a job and that of a run.
struct OfJob {
  using Resource = v1::Job;
  using GetRequest = v1::GetJobRequest;
  static constexpr auto kGet = &v1::PruneService::Stub::GetJob;
  static bool Ends(const v1::JobEvent& event) { return event.has_terminal(); }
  static const v1::Job& EndOf(const v1::JobEvent& event) { return event.terminal(); }
};

struct OfRun {
  using Resource = v1::Run;
  using GetRequest = v1::GetRunRequest;
  static constexpr auto kGet = &v1::PruneService::Stub::GetRun;
  static bool Ends(const v1::JobEvent& event) { return event.has_run_terminal(); }
  static const v1::Run& EndOf(const v1::JobEvent& event) { return event.run_terminal(); }
};

template <typename Of>
class Watcher {
  using Resource = typename Of::Resource;

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

  absl::StatusOr<Resource> Run() {
    while (true) {
      const absl::Status status =
          connection_.Try(absl::InfiniteDuration(),
                          [this](grpc::ClientContext& context) { return ReadStream(context); });
      if (terminal_.has_value()) return *std::move(terminal_);
      const bool skipped = SkipsCompacted(status);
      if (stopped_) return absl::CancelledError("the watch was stopped");
      if (skipped || (status.ok() && std::exchange(resumed_, false))) continue;
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
      probe_.Heard();
      const std::lock_guard<std::mutex> lock(handling_);
      if (!stopped_ && !Take(event)) {
        stopped_ = true;
        context.TryCancel();
      }
    }
    return FromGrpc(stream->Finish());
  }

  // False: the handler wants no more.
  bool Take(const v1::JobEvent& event) {
    if (event.heartbeat().has_waiting()) return handler_(event);
    if (event.sequence() <= last_) return true;  // another heartbeat, or seen before
    last_ = event.sequence();
    NoteEnd(event);
    return handler_(event);
  }

  // An end that events follow, or with what goes on by now, was not the last: it was resumed.
  void NoteEnd(const v1::JobEvent& event) {
    terminal_.reset();
    if (!Of::Ends(event)) return;
    const Resource& ended = Of::EndOf(event);
    resumed_ = ended.state() == v1::QUEUED || ended.state() == v1::RUNNING;
    if (!resumed_) terminal_ = ended;
  }

  // Where the history that is gone ends, the watch goes on.
  bool SkipsCompacted(const absl::Status& status) {
    const absl::optional<int64_t> oldest = OldestSequence(status);
    if (!absl::IsOutOfRange(status) || !oldest.has_value() || *oldest <= last_ + 1) return false;
    v1::JobEvent event;
    event.set_warning(absl::StrCat("events ", last_ + 1, " to ", *oldest - 1,
                                   " are no longer kept by the server"));
    last_ = *oldest - 1;
    const std::lock_guard<std::mutex> lock(handling_);
    stopped_ = !handler_(event);
    return true;
  }

  // The stream ended well without a terminal event: it was before after_sequence, or is still to
  // come.
  absl::StatusOr<Resource> Ended() {
    typename Of::GetRequest request;
    request.set_name(name_);
    return connection_.Call(connection_.jobs(), Of::kGet, request);
  }

  Connection& connection_;
  const std::string name_;
  int64_t last_;  // sequence of the last event handed on
  const EventHandler& handler_;
  const Mode mode_;
  Backoff backoff_;
  absl::optional<Resource> terminal_;
  bool resumed_ = false;  // the last event was the end of an earlier attempt
  bool stopped_ = false;
  std::mutex handling_;  // by the handler, or by who is told whether the server is reachable
  ServerProbe probe_{connection_, handling_};
};

}  // namespace

absl::StatusOr<v1::Job> Client::Watch(const std::string& name, int64_t after_sequence,
                                      const EventHandler& handler) {
  return Watcher<OfJob>(*connection_, name, after_sequence, handler, Mode::kFollow).Run();
}

absl::StatusOr<v1::Job> Client::Replay(const std::string& name, const EventHandler& handler) {
  return Watcher<OfJob>(*connection_, name, 0, handler, Mode::kReplay).Run();
}

absl::StatusOr<v1::Run> Client::WatchRun(const std::string& name, int64_t after_sequence,
                                         const EventHandler& handler) {
  return Watcher<OfRun>(*connection_, name, after_sequence, handler, Mode::kFollow).Run();
}

}  // namespace attnprune::client
