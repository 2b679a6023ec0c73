// The life of a job as one table.
#ifndef ATTNPRUNE_SERVER_QUEUE_JOB_STATE_H_
#define ATTNPRUNE_SERVER_QUEUE_JOB_STATE_H_

#include <array>
#include <cstdint>

#include "absl/strings/string_view.h"
#include "absl/types/optional.h"

namespace attnprune {

// The numbers are stored and are those of attnprune.v1.JobState.
enum class JobState {
  kQueued = 1,
  kRunning = 2,
  kSucceeded = 3,  // terminal
  kFailed = 4,     // terminal
  kCancelled = 5,  // terminal
};
inline constexpr std::array<JobState, 5> kJobStates = {JobState::kQueued, JobState::kRunning,
                                                       JobState::kSucceeded, JobState::kFailed,
                                                       JobState::kCancelled};

bool IsTerminal(JobState state);
// Whether a job may go from one state to the other in one step. Never from a state to itself.
bool CanMove(JobState from, JobState to);
// "QUEUED", as in the API.
absl::string_view ToString(JobState state);
// Nothing if no state has this number.
absl::optional<JobState> JobStateFromNumber(int64_t number);

}  // namespace attnprune

#endif  // ATTNPRUNE_SERVER_QUEUE_JOB_STATE_H_
