// A phase of a job that takes long but has no steps.
#ifndef ATTNPRUNE_SERVER_EXECUTION_JOB_PHASE_H_
#define ATTNPRUNE_SERVER_EXECUTION_JOB_PHASE_H_

#include <chrono>
#include <string>

#include "attnprune/v1/prune_service.pb.h"
#include "server/execution/job_writer.h"

namespace attnprune {

// Writes an event when it is made, when another hundredth is done, and at the end. One thread.
class JobPhase {
 public:
  // method: the label, or empty. writer must outlive the phase.
  JobPhase(v1::Phase phase, std::string method, JobWriter* writer);

  // share: that is done, in [0, 1].
  void Advance(double share);
  double seconds() const;  // since it was made

 private:
  void Write();

  const v1::Phase phase_;
  const std::string method_;
  JobWriter* const writer_;
  const std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
  double written_ = 0;  // the share that was written last
};

}  // namespace attnprune

#endif  // ATTNPRUNE_SERVER_EXECUTION_JOB_PHASE_H_
