#include "client/library/server_probe.h"

#include <string>

namespace attnprune::client {
namespace {

constexpr absl::Duration kSilence = absl::Milliseconds(500), kAnswerTime = absl::Seconds(1);

}  // namespace

ServerProbe::ServerProbe(Connection& connection, std::mutex& telling)
    : connection_(connection), telling_(telling) {
  if (!connection.options().reachable) return;
  thread_ = std::jthread([this](const std::stop_token& stop) { Run(stop); });
}

void ServerProbe::Run(const std::stop_token& stop) {
  while (Pause(stop, kSilence)) {
    const bool reachable = heard_.exchange(false) || Answers(stop);
    if (stop.stop_requested()) return;
    const std::lock_guard<std::mutex> lock(telling_);
    connection_.TellReachable(reachable);
  }
}

void ServerProbe::Answered() {
  if (!thread_.joinable()) return;
  thread_.request_stop();
  thread_.join();
  connection_.TellReachable(true);
}

// A server that drains or refuses answers too.
bool ServerProbe::Answers(const std::stop_token& stop) const {
  grpc::ClientContext context;
  context.set_deadline(absl::ToChronoTime(absl::Now() + kAnswerTime));
  connection_.Authorize(context);
  const std::stop_callback cancel(stop, [&context] { context.TryCancel(); });
  std::string health;
  const grpc::StatusCode code = connection_.AskHealth(context, &health).error_code();
  return code != grpc::StatusCode::UNAVAILABLE && code != grpc::StatusCode::DEADLINE_EXCEEDED;
}

}  // namespace attnprune::client
