#include "server/queue/job_record.h"

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace attnprune {
namespace {

struct Move {
  JobState from, to;
};

constexpr Move kMoves[] = {
    {JobState::kQueued, JobState::kRunning},     // claimed by a worker
    {JobState::kQueued, JobState::kCancelled},   // before it ran
    {JobState::kQueued, JobState::kFailed},      // timed out while waiting to run again
    {JobState::kRunning, JobState::kQueued},     // worker lost or draining
    {JobState::kRunning, JobState::kSucceeded},  //
    {JobState::kRunning, JobState::kFailed},     //
    {JobState::kRunning, JobState::kCancelled},  //
};

}  // namespace

JobKind KindOf(absl::string_view id) {
  return absl::StartsWith(id, kRunIdPrefix) ? JobKind::kRun : JobKind::kMethods;
}

std::string NameOf(absl::string_view id) {
  return absl::StrCat(KindOf(id) == JobKind::kRun ? "runs/" : "jobs/", id);
}

bool IsTerminal(JobState state) {
  for (const Move& move : kMoves) {
    if (move.from == state) return false;
  }
  return true;
}

bool CanMove(JobState from, JobState to) {
  for (const Move& move : kMoves) {
    if (move.from == from && move.to == to) return true;
  }
  return false;
}

absl::string_view ToString(JobState state) {
  switch (state) {
    case JobState::kQueued:
      return "QUEUED";
    case JobState::kRunning:
      return "RUNNING";
    case JobState::kSucceeded:
      return "SUCCEEDED";
    case JobState::kFailed:
      return "FAILED";
    case JobState::kCancelled:
      return "CANCELLED";
  }
  return "UNKNOWN";
}

absl::optional<JobState> JobStateFromNumber(int64_t number) {
  for (const JobState state : kJobStates) {
    if (static_cast<int64_t>(state) == number) return state;
  }
  return absl::nullopt;
}

}  // namespace attnprune
