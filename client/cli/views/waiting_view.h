// What a queued job or run waits for, as text. Pure.
#ifndef ATTNPRUNE_CLIENT_CLI_VIEWS_WAITING_VIEW_H_
#define ATTNPRUNE_CLIENT_CLI_VIEWS_WAITING_VIEW_H_

#include <string>

#include "absl/time/time.h"
#include "absl/types/optional.h"
#include "attnprune/v1/prune_service.pb.h"
#include "attnprune/v1/run.pb.h"
#include "client/cli/views/format.h"

namespace attnprune::cli {

// "2 ahead, jobs/x and runs/r-y at work; may start in 4 min". Empty where a worker is free.
std::string WaitingText(const v1::Waiting& waiting, absl::Time now);
// "waits     " and WaitingText, a line of a description; empty where that is.
std::string WaitsRow(const v1::Waiting& waiting, absl::Time now);
// "at work   gd, 50 % done, 2 min 05 s left", the same.
std::string AtWorkRow(const v1::AtWork& work);
std::string QueuePlaceText(const v1::Waiting& waiting);             // "3rd"
std::string StartText(const v1::Waiting& waiting, absl::Time now);  // "in 4 min", or "now"

// Cells of a list's row. Resource: v1::Job or v1::Run.
// "queued, 3rd", or the state alone.
template <typename Resource>
std::string StateCell(const Resource& resource) {
  return StateText(resource.state()) +
         (resource.has_waiting() ? ", " + QueuePlaceText(resource.waiting()) : "");
}
// The time left or, of one that waits, until it may start.
template <typename Resource>
std::string LeftCell(const Resource& resource, absl::Time now) {
  if (resource.has_waiting()) return StartText(resource.waiting(), now);
  return resource.has_at_work() ? SecondsText(resource.at_work().remaining_seconds()) : "";
}

// What a watched job or run waits for by now. Not thread-safe.
class WaitingView {
 public:
  // As it was before the watch.
  explicit WaitingView(const v1::Job& job);
  explicit WaitingView(const v1::Run& run);

  void Apply(const v1::JobEvent& event);

  // "waits for a worker: " and WaitingText; empty while it waits for none.
  std::string Line(absl::Time now) const;
  // Line, where what is ahead or at work is not as it was when this last returned it; else empty.
  std::string News(absl::Time now);

 private:
  void ApplyState(const v1::StateChange& change);

  absl::optional<v1::Waiting> at_first_;  // until the event that tells of this wait
  int attempt_;                           // of that event
  bool queued_ = true;                    // as far as events have told
  absl::optional<v1::Waiting> waiting_;
  std::string told_;  // what News returned last was made of, but for the time
};

}  // namespace attnprune::cli

#endif  // ATTNPRUNE_CLIENT_CLI_VIEWS_WAITING_VIEW_H_
